//! The command line (contract 3). What is dangerous says so and has no short form.

use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};

use super::explain::Explain;
use super::onboard::Onboard;
use super::share::Share;
use super::unlock::Unlock;
use super::upstream_cert::UpstreamCert;
use crate::config::unit::parse_duration;

/// Puts a service that is bound to 127.0.0.1 on the network: encrypted, behind networks and passwords.
#[derive(Debug, Parser)]
#[command(
    name = "loopgate",
    version,
    propagate_version = true,
    arg_required_else_help = true
)]
pub struct Cli {
    /// What to do
    #[command(subcommand)]
    pub command: Command,
    /// Print results only
    #[arg(short, long, global = true)]
    pub quiet: bool,
    /// Print more
    #[arg(short, long, global = true, conflicts_with = "quiet")]
    pub verbose: bool,
    /// No colours (the environment variable NO_COLOR does the same)
    #[arg(long, global = true)]
    pub no_color: bool,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Put a sample service on the network: the first thing to try
    Demo(Expose),
    /// Put one service on the network, without a file
    Expose {
        /// The service: `3000`, `localhost:3000`, `127.0.0.1:3000`, `https://127.0.0.1:8006`, `unix:/run/app.sock`
        target: String,
        #[command(flatten)]
        options: Expose,
    },
    /// Start a command and put the service that it opens on the network: `loopgate run -- npm run dev`
    Run(Run),
    /// Run a configuration file
    Serve {
        #[command(flatten)]
        file: ConfigFile,
        /// Take the place of the gate that runs this file: its listening sockets, so that nobody is refused; it finishes what it has
        /// begun and ends. When this one cannot start, that one goes on
        #[arg(long)]
        take_over: bool,
    },
    /// Show every mistake in a configuration file
    Check {
        #[command(flatten)]
        file: ConfigFile,
        /// For programs
        #[arg(long)]
        json: bool,
    },
    /// Say why a request passes or not, with the line of the file that decided
    Explain(Explain),
    /// List every listening socket of this machine by who can reach it, and what to do about it
    Audit {
        #[command(flatten)]
        file: ConfigFile,
        /// For programs
        #[arg(long)]
        json: bool,
    },
    /// Print nftables rules that match the configuration; applies nothing
    Firewall {
        #[command(flatten)]
        file: ConfigFile,
    },
    /// Add, revoke or list API tokens
    Token {
        #[command(subcommand)]
        act: Token,
    },
    /// Add, remove or list those who may log in
    User {
        #[command(subcommand)]
        act: User,
    },
    /// Hash a password, read from a prompt or standard input
    HashPassword,
    /// Show or export the local authority, which devices have to trust
    Ca {
        #[command(subcommand)]
        act: Ca,
    },
    /// Open the page that helps a phone to trust the local authority, for a limited time
    Onboard(Onboard),
    /// Make a link that logs one visitor in, within limits; `share list`, `share revoke`
    Share(Share),
    /// Make, revoke or list client certificates
    Cert {
        #[command(subcommand)]
        act: Cert,
    },
    /// Say how the running gate is doing
    Status {
        #[command(flatten)]
        which: WhichGate,
        /// Draw it again every second, until Ctrl-C
        #[arg(long)]
        watch: bool,
        /// For programs
        #[arg(long)]
        json: bool,
    },
    /// Say whether the running gate can serve, for health checks: exit 0 or 1
    Health {
        #[command(flatten)]
        file: ConfigFile,
        /// Only whether it is there, whatever its services do
        #[arg(long)]
        alive: bool,
    },
    /// Let the running gate read its configuration again, and say what came of it
    Reload {
        #[command(flatten)]
        which: WhichGate,
        /// For programs
        #[arg(long)]
        json: bool,
    },
    /// Show, accept or forget the certificates of https services
    UpstreamCert {
        #[command(subcommand)]
        act: UpstreamCert,
    },
    /// End what a user, or a network, has to wait after failed logins
    Unlock(Unlock),
    /// Print the JSON Schema of the configuration
    Schema,
    /// Print completions for a shell
    Completions {
        /// The shell
        shell: clap_complete::Shell,
    },
    /// Print the manual page, or write one for each command into a directory
    Man {
        /// Where to write them
        #[arg(long)]
        dir: Option<PathBuf>,
    },
}

/// Which configuration file.
#[derive(Debug, Args)]
pub struct ConfigFile {
    /// The configuration file; else $LOOPGATE_CONFIG, ./loopgate.toml, $XDG_CONFIG_HOME/loopgate/loopgate.toml, /etc/loopgate/loopgate.toml
    #[arg(short, long, value_name = "FILE")]
    pub config: Option<PathBuf>,
}

/// Which of the gates that run here.
#[derive(Debug, Args)]
pub struct WhichGate {
    /// The one that runs this configuration file
    #[arg(short, long, value_name = "FILE", conflicts_with_all = ["pid", "all"])]
    pub config: Option<PathBuf>,
    /// The one with this process number
    #[arg(long, value_name = "PID", conflicts_with = "all")]
    pub pid: Option<u32>,
    /// All of them
    #[arg(long)]
    pub all: bool,
}

/// `loopgate run`.
#[derive(Debug, Args)]
pub struct Run {
    /// The port to put on the network, and the one that the command is told; without it a free one, and whatever it really opens
    #[arg(long, value_name = "PORT", value_parser = clap::value_parser!(u16).range(1..))]
    pub port: Option<u16>,
    #[command(flatten)]
    pub options: Expose,
    /// The command and its arguments; `{port}` and `{host}` in them are replaced
    #[arg(last = true, required = true, value_name = "CMD")]
    pub command: Vec<OsString>,
}

/// The options of `expose`, `run` and `demo`.
#[derive(Debug, Args)]
// Its group would carry the name of the command `expose`.
#[group(skip)]
pub struct Expose {
    /// Where to listen; repeatable (without it: `0.0.0.0:8443` and `[::]:8443`)
    #[arg(short, long, value_name = "ADDR:PORT")]
    pub listen: Vec<SocketAddr>,
    /// A network that may come in, or `this-lan`, `loopback`, `private`; repeatable [default: this-lan and loopback]
    #[arg(long, alias = "cidr-allow", value_name = "NET")]
    pub allow: Vec<String>,
    /// The name to log in with
    #[arg(long, default_value = "me", value_name = "NAME")]
    pub user: String,
    /// Close after this time, for example 30m or 2h
    #[arg(long = "for", value_name = "DURATION", value_parser = parse_duration)]
    pub duration: Option<Duration>,
    /// A further host name to answer to; repeatable
    #[arg(long, value_name = "HOST")]
    pub name: Vec<String>,
    /// The Host that the service sees: the one that the visitor typed, or its own
    #[arg(long, value_enum, default_value_t = HostHeader::Keep)]
    pub host_header: HostHeader,
    /// The certificate of an https service: `first-seen` (remembered; another one is refused later), `sha256:HEX`, a PEM file, or
    /// `any` [default: first-seen; any for `run`, whose service makes a new one at every start]
    #[arg(long, value_name = "WHICH")]
    pub upstream_cert: Option<String>,
    /// A certificate of your own (PEM, the server's own first)
    #[arg(long, value_name = "FILE", requires = "tls_key")]
    pub tls_cert: Option<PathBuf>,
    /// Its private key (PEM)
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    pub tls_key: Option<PathBuf>,
    /// How log lines look
    #[arg(long, value_enum, default_value_t = LogFormat::Text)]
    pub log_format: LogFormat,
    /// Serve a service that can be reached around the gate all the same
    #[arg(long)]
    pub unsafe_upstream: bool,
    /// Let everybody from the allowed networks in, without a password
    #[arg(long)]
    pub unsafe_no_auth: bool,
    /// Serve HTTP without encryption: everybody on the network reads the password and all that is sent
    #[arg(long, conflicts_with = "tls_cert")]
    pub unsafe_plain_http: bool,
}

/// `--host-header`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum HostHeader {
    /// What the visitor typed
    Keep,
    /// localhost and the port of the service, with Origin, Location and cookies mapped
    Upstream,
    /// `keep`, and `upstream` when the service refuses to be called by the name of the visitor
    Auto,
}

/// `--log-format`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// For people
    Text,
    /// One JSON object a line
    Json,
}

/// `loopgate token`.
#[derive(Debug, Subcommand)]
pub enum Token {
    /// Make a token; it is shown once
    Add {
        /// Its name, as it stands in the log
        #[arg(long)]
        name: String,
        /// How long it is good, for example 30d; without it for ever
        #[arg(long = "for", value_name = "DURATION", value_parser = parse_duration)]
        duration: Option<Duration>,
        /// Only below this path; repeatable
        #[arg(long, value_name = "PATH")]
        path: Vec<String>,
        /// Only with this method; repeatable
        #[arg(long, value_name = "METHOD")]
        method: Vec<String>,
        #[command(flatten)]
        file: TokensFile,
    },
    /// Revoke a token
    Revoke {
        /// Its name or id
        name: String,
        #[command(flatten)]
        file: TokensFile,
    },
    /// List the tokens
    List {
        #[command(flatten)]
        file: TokensFile,
        /// For programs
        #[arg(long)]
        json: bool,
    },
}

/// Which tokens file.
#[derive(Debug, Args)]
pub struct TokensFile {
    /// The tokens file; else the one of the configuration file
    #[arg(long, value_name = "FILE")]
    pub tokens_file: Option<PathBuf>,
    #[command(flatten)]
    pub config: ConfigFile,
}

/// `loopgate user`.
#[derive(Debug, Subcommand)]
pub enum User {
    /// Add a user, or give one a new password (from a prompt or standard input)
    Add {
        /// The name
        name: String,
        #[command(flatten)]
        file: UsersFile,
    },
    /// Remove a user
    Remove {
        /// The name
        name: String,
        #[command(flatten)]
        file: UsersFile,
    },
    /// List the users
    List {
        #[command(flatten)]
        file: UsersFile,
        /// For programs
        #[arg(long)]
        json: bool,
    },
}

/// Which users file.
#[derive(Debug, Args)]
pub struct UsersFile {
    /// The users file; else the one of the configuration file
    #[arg(long, value_name = "FILE")]
    pub users_file: Option<PathBuf>,
    #[command(flatten)]
    pub config: ConfigFile,
}

/// `loopgate ca`.
#[derive(Debug, Subcommand)]
pub enum Ca {
    /// Show its fingerprint and what it may sign
    Show {
        /// For programs
        #[arg(long)]
        json: bool,
    },
    /// Make a new one in place of the old; every device has to trust the new one
    Renew,
    /// Write its certificate (PEM) to standard output or a file
    Export {
        /// The file
        #[arg(short, long, value_name = "FILE")]
        output: Option<PathBuf>,
    },
}

/// `loopgate cert`.
#[derive(Debug, Subcommand)]
pub enum Cert {
    /// Make a certificate for a user, as a .p12 file with a password that is shown once
    Client {
        /// The user, as in the users file
        name: String,
        /// How long it is good, at most a year
        #[arg(long = "for", value_name = "DURATION", value_parser = parse_duration, default_value = "365d")]
        duration: Duration,
        /// The file to write [default: NAME.p12]
        #[arg(short, long, visible_alias = "output", value_name = "FILE")]
        out: Option<PathBuf>,
        /// For devices that refuse the password of the usual form: older iOS, macOS and Android
        #[arg(long)]
        legacy: bool,
    },
    /// Revoke a certificate, or all of a user; running gates notice at once
    Revoke {
        /// The user, or a serial number of `cert list`
        which: String,
    },
    /// List the certificates
    List {
        /// For programs
        #[arg(long)]
        json: bool,
    },
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn every_command_is_put_together_soundly() {
        Cli::command().debug_assert();
    }
}
