//! Finds a member that answers.
//!
//! Place: every command that asks a cluster. All known addresses are asked at once, a little apart;
//! the first answer from a member that has a quorum wins, and an answer without one is taken only
//! when nobody has better. A member that hangs costs nothing that way.

use std::path::Path;
use std::time::Duration;

use howdah_agent::config::{Config, DEFAULT_PATH, HostPort};
use howdah_locks::{Keyring, Paths, Visitor, files, token};
use howdah_rpc::access::Access;
use howdah_rpc::channel;
use howdah_rpc::control::control_client::ControlClient;
use howdah_rpc::control::{ClusterStatus, StatusRequest};
use tokio::task::JoinSet;
use tonic::metadata::{Ascii, MetadataValue};
use tonic::service::Interceptor;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::Channel;

use crate::args::Global;
use crate::failure::Failure;

/// The generated client, which shows a token where there is one.
pub type Client = ControlClient<InterceptedService<Channel, Shown>>;

/// How long one member may take to answer before it counts as silent.
const ANSWER: Duration = Duration::from_millis(2000);
const CONNECT: Duration = Duration::from_millis(700);
/// Head start of each address over the next, so that the first one answers when all do.
const HEAD_START: Duration = Duration::from_millis(60);
const FALLBACK: &str = "127.0.0.1:7432";

/// A member that answered, and what it said.
pub struct Reached {
    /// Connection to it.
    pub client: Client,
    /// The cluster as it sees it.
    pub status: ClusterStatus,
}

/// Whom to ask, and what to show them.
#[derive(Clone, Debug)]
pub struct Endpoints {
    /// HOST:PORT of members; the first may be the socket of the one on this machine.
    pub addresses: Vec<String>,
    /// The own certificate, where there is one.
    pub access: Access,
    /// The token, where there is one.
    pub shown: Shown,
}

/// A token that goes with each call.
#[derive(Clone, Debug, Default)]
pub struct Shown(Option<MetadataValue<Ascii>>);

impl Interceptor for Shown {
    fn call(
        &mut self,
        mut request: tonic::Request<()>,
    ) -> Result<tonic::Request<()>, tonic::Status> {
        if let Some(value) = &self.0 {
            request.metadata_mut().insert("authorization", value.clone());
        }
        Ok(request)
    }
}

impl Shown {
    /// The token, and the cluster that it is of if it says so.
    fn read(file: &Path) -> Result<(Self, Option<String>), Failure> {
        let usage = |why: String| Failure::Usage(format!("--token-file: {why}"));
        let text = files::read_key(file).map_err(|why| usage(why.to_string()))?;
        let value = format!("Bearer {}", text.trim()).parse::<MetadataValue<Ascii>>();
        let mut value = value.map_err(|_| usage(format!("{} holds no token", file.display())))?;
        value.set_sensitive(true);
        Ok((Self(Some(value)), token::scope(text.trim()).map(str::to_owned)))
    }
}

impl Endpoints {
    /// These, by what is shown once.
    pub fn new(addresses: Vec<String>, access: Access) -> Self {
        Self { addresses, access, shown: Shown::default() }
    }

    fn client(&self, address: &str) -> Result<Client, String> {
        let channel = channel::lazy(address, CONNECT, &self.access);
        let channel = channel.map_err(|error| error.to_string())?;
        Ok(ControlClient::with_interceptor(channel, self.shown.clone()))
    }
}

/// Whom to ask: `--endpoint`, else the socket of the configuration file's member and all its members' addresses, else the local
/// default; and what to show them: the token, or the certificate of `--keys`, else the configuration's.
///
/// # Errors
/// `Failure::Usage` if the configuration file, the keys or the token that were named cannot be used.
pub fn endpoints(global: &Global) -> Result<Endpoints, Failure> {
    let file = match &global.config {
        Some(file) => Some(file.as_path()),
        None => Some(Path::new(DEFAULT_PATH)).filter(|path| path.exists()),
    };
    let shows = global.keys.is_some() || (global.token_file.is_some() && global.ca.is_some());
    // Whoever says both whom to ask and what to show needs no configuration.
    let enough = global.endpoint.is_some() && (shows || global.config.is_none());
    let config = match file.filter(|_| !enough) {
        None => None,
        Some(file) => {
            Some(Config::load(file).map_err(|error| Failure::Usage(error.to_string()))?.0)
        }
    };
    if let Some(file) = &global.token_file {
        let addresses = remote(global, config.as_ref())?;
        let (shown, scope) = Shown::read(file)?;
        let access = visitor(global, config.as_ref(), scope.as_deref())?;
        return Ok(Endpoints { addresses, access, shown });
    }
    let mut addresses = remote(global, config.as_ref())?;
    let (Some(config), None) = (&config, &global.keys) else {
        let scope = config.as_ref().map(|config| config.scope.as_str());
        let access = match &global.keys {
            Some(dir) => keys(dir, scope)?,
            None => Access::Open,
        };
        return Ok(Endpoints::new(addresses, access));
    };
    // Root and howdah's own user need nothing else on a member's machine, if its agent listens.
    let socket = config.control_socket();
    let listens = || std::os::unix::net::UnixStream::connect(&socket).is_ok();
    let local = (global.endpoint.is_none() && listens())
        .then(|| format!("{}{}", channel::SOCKET, socket.display()));
    match (access(config), local) {
        (Ok(access), Some(local)) => {
            addresses.insert(0, local);
            Ok(Endpoints::new(addresses, access))
        }
        // Without keys no other member is asked: whoever answered would be believed.
        (Err(_), Some(local)) => Ok(Endpoints::new(vec![local], Access::Open)),
        (access, None) => Ok(Endpoints::new(addresses, access?)),
    }
}

fn remote(global: &Global, config: Option<&Config>) -> Result<Vec<String>, Failure> {
    Ok(match (addresses(global)?, config) {
        (Some(addresses), _) => addresses,
        (None, Some(config)) => config.control_addresses(),
        (None, None) => vec![FALLBACK.to_owned()],
    })
}

/// Whom the holder of a token believes.
fn visitor(
    global: &Global,
    config: Option<&Config>,
    scope: Option<&str>,
) -> Result<Access, Failure> {
    if global.keys.is_some() {
        let text = "--keys and --token-file are two ways to show who you are; give one of them";
        return Err(Failure::Usage(text.to_owned()));
    }
    let ca = match (&global.ca, config) {
        (Some(file), _) => file.clone(),
        (None, Some(Config { tls: Some(paths), .. })) => paths.ca.clone(),
        (None, Some(_)) => return Ok(Access::Open),
        (None, None) => {
            let text = "--token-file: name the CA that members are believed by, too: --ca FILE";
            return Err(Failure::Usage(text.to_owned()));
        }
    };
    let Some(scope) = scope else {
        let text = "--token-file: there is no token in it as `howdah token create` makes it, howdah_SCOPE_...";
        return Err(Failure::Usage(text.to_owned()));
    };
    let visitor =
        Visitor::load(&ca, scope).map_err(|why| Failure::Usage(format!("--ca: {why}")))?;
    Ok(Access::Visitor(visitor))
}

/// The keys of a configuration.
///
/// # Errors
/// `Failure::Usage`: they cannot be read, as by whoever is not the user that howdah runs as.
pub fn access(config: &Config) -> Result<Access, Failure> {
    config.access().map_err(|why| {
        let hint = "name your own with --keys, or run this as the user that howdah runs as";
        Failure::Usage(format!("tls: {why}; {hint}"))
    })
}

/// The certificate of a directory, as `howdah pki issue` writes it.
///
/// # Errors
/// `Failure::Usage`: what is wrong with it.
pub fn keys(dir: &Path, scope: Option<&str>) -> Result<Access, Failure> {
    let keyring = Keyring::load(Paths::in_dir(dir), scope);
    Ok(Access::Locked(keyring.map_err(|why| Failure::Usage(format!("--keys: {why}")))?))
}

fn addresses(global: &Global) -> Result<Option<Vec<String>>, Failure> {
    if let Some(list) = &global.endpoint {
        let parts = list.split(',').map(str::trim).filter(|part| !part.is_empty());
        let endpoints: Vec<String> = parts.map(str::to_owned).collect();
        if endpoints.is_empty() {
            return Err(Failure::Usage("--endpoint is empty; write HOST:PORT".to_owned()));
        }
        for endpoint in &endpoints {
            if !endpoint.starts_with(channel::SOCKET) && HostPort::parse(endpoint).is_none() {
                let what = format!("--endpoint: `{endpoint}` is no address; write HOST:PORT");
                return Err(Failure::Usage(what));
            }
        }
        return Ok(Some(endpoints));
    }
    Ok(None)
}

/// Asks all of `endpoints` and returns the best answer.
///
/// # Errors
/// `Failure::Error` if nobody answers, with what happened at each address.
pub async fn reach(endpoints: &Endpoints) -> Result<Reached, Failure> {
    let mut asked = JoinSet::new();
    for (nth, endpoint) in endpoints.addresses.iter().enumerate() {
        let (endpoint, endpoints) = (endpoint.clone(), endpoints.clone());
        let delay = HEAD_START * u32::try_from(nth).unwrap_or(u32::MAX);
        asked.spawn(async move {
            tokio::time::sleep(delay).await;
            let answer = tokio::time::timeout(ANSWER, ask(&endpoint, &endpoints)).await;
            answer.unwrap_or_else(|_| Err("no answer".to_owned())).map_err(|why| (endpoint, why))
        });
    }
    let mut second_best: Option<Reached> = None;
    let mut silent = Vec::new();
    while let Some(joined) = asked.join_next().await {
        match joined {
            Ok(Ok(reached)) if reached.status.quorum => return Ok(reached),
            Ok(Ok(reached)) => {
                second_best.get_or_insert(reached);
            }
            Ok(Err((endpoint, why))) => silent.push(format!("{endpoint}: {why}")),
            Err(error) => silent.push(error.to_string()),
        }
    }
    second_best.ok_or_else(|| {
        silent.sort();
        let keys = match endpoints.access {
            Access::Open => {
                "; a cluster with certificates answers whoever shows one, or a token: --keys, --token-file"
            }
            Access::Locked(_) | Access::Visitor(_) => "",
        };
        Failure::Error(format!(
            "no member answers ({}); check --endpoint or -c, and that `howdah run` is running \
             there{keys}",
            silent.join("; ")
        ))
    })
}

async fn ask(endpoint: &str, endpoints: &Endpoints) -> Result<Reached, String> {
    let mut client = endpoints.client(endpoint)?;
    let answer = client.status(StatusRequest { watch: false }).await;
    let mut stream = answer.map_err(|status| plain(&status))?.into_inner();
    match stream.message().await {
        Ok(Some(status)) => Ok(Reached { client, status }),
        Ok(None) => Err("an empty answer".to_owned()),
        Err(status) => Err(plain(&status)),
    }
}

/// Asks the member at `address` itself, whatever it knows of the others.
///
/// # Errors
/// Why it did not answer, in words.
pub async fn ask_one<T>(
    address: &str,
    endpoints: &Endpoints,
    question: impl AsyncFnOnce(&mut Client) -> Result<tonic::Response<T>, tonic::Status>,
) -> Result<T, String> {
    let mut client = endpoints.client(address)?;
    match tokio::time::timeout(ANSWER, question(&mut client)).await {
        Ok(answer) => answer.map(tonic::Response::into_inner).map_err(|status| plain(&status)),
        Err(_) => Err("no answer".to_owned()),
    }
}

/// The innermost cause: `Connection refused` rather than `transport error`.
fn plain(status: &tonic::Status) -> String {
    let mut cause: Option<&dyn std::error::Error> = std::error::Error::source(status);
    let mut text = status.message().to_owned();
    while let Some(inner) = cause {
        text = inner.to_string();
        cause = inner.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::args::Format;

    fn global(endpoint: Option<&str>, config: Option<&str>) -> Global {
        Global {
            config: config.map(Into::into),
            endpoint: endpoint.map(str::to_owned),
            keys: None,
            token_file: None,
            ca: None,
            output: Format::Table,
        }
    }

    #[test]
    fn an_endpoint_goes_before_a_file() {
        let found = addresses(&global(Some("a:1, b:2,"), Some("/nowhere.yml"))).unwrap();
        assert_eq!(found.unwrap(), ["a:1", "b:2"]);
        let failure = endpoints(&global(None, Some("/nowhere.yml"))).unwrap_err();
        assert_eq!(failure.exit_code(), crate::failure::USAGE);
        assert!(failure.to_string().contains("/nowhere.yml"), "{failure}");
    }

    #[tokio::test]
    async fn when_nobody_answers_every_address_is_named_with_the_cause() {
        let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = free.local_addr().unwrap().to_string();
        drop(free);
        let addresses = vec![address.clone(), "no-port".to_owned()];
        let failure = reach(&Endpoints::new(addresses, Access::Open)).await.err().unwrap();
        let text = failure.to_string();
        assert!(text.contains(&address) && text.contains("refused"), "{text}");
        assert!(text.contains("no-port"), "{text}");
    }
}
