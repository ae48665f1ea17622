//! The command line of the postmaster.
//!
//! For the guard, which starts it. What stands here beats `postgresql.auto.conf`, so a person's
//! ALTER SYSTEM cannot move the server to another port or past the HBA file. It cannot change with
//! a reload either, hence nothing that changes with the role stands here.

use crate::settings::PgSettings;

/// Arguments after the program's name. No secrets among them.
pub fn postmaster_args(settings: &PgSettings) -> Vec<String> {
    let mut args = vec!["-D".to_owned(), settings.data_dir.display().to_string()];
    for (name, value) in settings.pinned() {
        args.push("-c".to_owned());
        args.push(format!("{name}={value}"));
    }
    args
}
