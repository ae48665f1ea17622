//! The script's commands for tokens, passwords and orders.

use std::error::Error;

use howdah_core::{Audit, AuditEnd, Command, Right, Secrets, Token, WallTime};

use super::parse::Args;
use super::world::World;

type Made = Result<Option<Command>, Box<dyn Error>>;

impl World {
    /// `token robot operator`, `revoke robot`, `secrets`, `rotate seen=0`, `order 7 who what`, `ended 7 done`.
    pub(super) fn of_rights(name: &str, args: &mut Args<'_>) -> Made {
        let at = WallTime(0);
        let mut word =
            |what: &str| args.word().map(str::to_owned).ok_or_else(|| format!("{what} is missing"));
        let secrets = || Secrets { replication: "a".into(), rewind: "b".into(), version: 0 };
        Ok(Some(match name {
            "token" => {
                let (name, role) = (word("a name")?, word("a role")?);
                let right = Right::of(&role).ok_or_else(|| format!("no role {role}"))?;
                let hash = args.text("hash").unwrap_or("00").to_owned();
                let token = Token { right, hash, by: "alice".into(), made: at, expires: None };
                Command::GrantToken { name, token }
            }
            "revoke" => Command::RevokeToken { name: word("a name")?, at },
            "secrets" => Command::SetSecrets { secrets: secrets() },
            "rotate" => {
                let seen = args.number("seen")?.unwrap_or(0);
                Command::RotateSecrets { secrets: secrets(), seen, at }
            }
            "order" => {
                let id = word("an id")?.parse()?;
                let (who, what) = (word("who")?, word("what")?);
                let (from, through) = ("10.0.0.9:1".to_owned(), "n1".into());
                Command::BeginAudit { audit: Audit { id, at, who, from, through, what, end: None } }
            }
            "ended" => {
                let id = word("an id")?.parse()?;
                let end = AuditEnd { at, done: word("done")? == "done", text: word("a text")? };
                Command::EndAudit { id, end }
            }
            _ => return Ok(None),
        }))
    }
}
