//! The real program in process, on a port of its own, from configuration text.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::{Duration, Instant, SystemTime};

use loopgate::app::{Running, ServiceCerts, Settled, Site, Source, reload, start};
use loopgate::auth::certificate_file::{self, Entry};
use loopgate::auth::share::Limits;
use loopgate::flow::Opened;
use loopgate::net::Machine;
use loopgate::plan::{Kept, Plan};
use serde_json::Value;
use tempfile::TempDir;

use super::client::Identity;
use super::{Client, H2, Upstream, until};

/// Those who may log in: alice (`open sesame`), bob (`brick wall`), carol (`ocean wave`).
pub const USERS: &str = "\
alice:$5$alicesalt$2r0gqZaXuJIaknOSFxOWyiTHeyQGDC0/5PRv8A272a2
bob:$5$bobsalt$/BTBIX5PxpPwmiKtmMoj4wNSFhtLTxM5MSeNahxXue8
carol:$5$carolsalt$KPtFDgYh5jy1v.SIHHaVqEtxd3f/NkafByxI.6kqhf.
";

/// Tests make many mistakes on purpose.
const PATIENT: &str = "lockout = { failures = 250, window = \"5m\", ban = \"15m\" }\n";

/// The machine that all gates believe to be on.
pub fn machine() -> Machine {
    Machine {
        names: vec!["localhost".into(), "gate".into(), "gate.local".into()],
        addresses: vec![IpAddr::from([127, 0, 0, 1])],
        ..Machine::default()
    }
}

/// The rest of every configuration; `[auth]` is its last table.
const FRAME: &str = "\
[server]
workers = 1
[log]
access = \"access.log\"
format = \"json\"
[auth]
users_file = \"users.htpasswd\"
";

/// Stands for the address of a gate that listens nowhere.
const ANY: SocketAddr = SocketAddr::new(IpAddr::V4(std::net::Ipv4Addr::UNSPECIFIED), 0);

const LISTENER: &str = "[[listener]]\naddress = \"127.0.0.1:0\"\n";

/// A gate that runs until it is dropped.
pub struct Gate {
    pub address: SocketAddr,
    head: String,
    running: Option<Running>,
    dir: TempDir,
    kept: Kept,
    pub machine: Machine,
}

impl Gate {
    /// `app.lan` leads to the upstream, without a log-in.
    pub fn plain(upstream: &Upstream) -> Self {
        Self::limited(upstream, "")
    }

    /// As [`Gate::plain`], with these lines in `[limits]`.
    pub fn limited(upstream: &Upstream, limits: &str) -> Self {
        let route = route("app.lan", "/", upstream, "\"anyone\"");
        Self::open(&format!("[limits]\n{limits}\n{route}"))
    }

    /// With these tables; loopback may connect.
    pub fn open(tables: &str) -> Self {
        Self::listening("networks = { allow = [\"loopback\"] }", tables)
    }

    /// With these keys of the listener and these tables.
    pub fn listening(listener: &str, tables: &str) -> Self {
        Self::with(PATIENT, listener, tables)
    }

    /// With these keys of `[auth]`, these of the listener, and these tables.
    pub fn with(auth: &str, listener: &str, tables: &str) -> Self {
        Self::of(format!("{FRAME}{auth}{LISTENER}{listener}\n"), tables)
    }

    /// From a whole file.
    pub fn written(text: &str) -> Self {
        Self::prepared(text, &[])
    }

    /// From a whole file and these files beside it.
    pub fn prepared(text: &str, beside: &[(&str, &[u8])]) -> Self {
        Self::made(text.to_owned(), "", beside)
    }

    fn of(head: String, tables: &str) -> Self {
        Self::made(head, tables, &[])
    }

    fn made(head: String, tables: &str, beside: &[(&str, &[u8])]) -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let machine = machine();
        std::fs::write(dir.path().join("users.htpasswd"), USERS).expect("a users file");
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o600);
        std::fs::set_permissions(dir.path().join("users.htpasswd"), mode).expect("its mode");
        for (name, bytes) in beside {
            std::fs::write(dir.path().join(name), bytes).expect("a file");
        }
        let file = dir.path().join("loopgate.toml");
        std::fs::write(&file, format!("{head}{tables}")).expect("a configuration file");
        let kept = Kept::new(dir.path().join("state"));
        let plan = planned(file, &machine, &kept);
        for tls in plan.listeners.iter().filter_map(|l| l.tls.as_ref()) {
            tls.warm(&machine.addresses, SystemTime::now())
                .expect("certificates");
        }
        let running = start(plan).expect("a gate");
        Self {
            head,
            address: running.addresses.first().copied().unwrap_or(ANY),
            running: Some(running),
            dir,
            kept,
            machine,
        }
    }

    /// Puts another configuration in force, as a reload does.
    pub fn replan(&self, listener: &str, tables: &str) {
        self.try_replan(listener, tables)
            .unwrap_or_else(|report| panic!("{report}"));
    }

    /// The same; or why it is refused.
    pub fn try_replan(&self, listener: &str, tables: &str) -> Result<(), String> {
        let address = self.running().shared.live.current().listeners[0].addresses[0];
        let listener = format!("[[listener]]\naddress = \"{address}\"\n{listener}\n");
        let file = self.path("loopgate.toml");
        std::fs::write(&file, format!("{FRAME}{PATIENT}{listener}{tables}"))
            .expect("a configuration file");
        let before = self.running().shared.live.current();
        match Source::File(file).plan(&self.machine, &self.kept, Some(&before)) {
            Ok((plan, _)) => {
                self.running().put(plan);
                Ok(())
            }
            Err(report) => Err(report.render(false, 100)),
        }
    }

    /// Puts other tables in force, and whatever has changed in the files beside them.
    pub fn retable(&self, tables: &str) {
        let file = self.path("loopgate.toml");
        std::fs::write(&file, format!("{}{tables}", self.head)).expect("a configuration file");
        let before = self.running().shared.live.current();
        let plan = Source::File(file).plan(&self.machine, &self.kept, Some(&before));
        let plan = plan.unwrap_or_else(|report| panic!("{}", report.render(false, 100)));
        self.running().put(plan.0);
    }

    /// Makes a client certificate of the local authority; the next plan makes it count.
    pub fn issue(&self, name: &str, life: Duration) -> (Identity, String) {
        let now = SystemTime::now();
        let authority = self.kept.client_authority(now).expect("an authority");
        let issued = authority.issue(name, life, now).expect("a certificate");
        let entry = Entry {
            name: name.to_owned(),
            serial: issued.serial.clone(),
            issued: 0,
            expires: 0,
            revoked: None,
        };
        certificate_file::add(&self.kept.client_list(), entry).expect("a list");
        let identity = Identity {
            chain: issued.chain,
            key: issued.key.to_vec(),
        };
        (identity, issued.serial)
    }

    /// Revokes what [`Gate::issue`] made; the next plan makes it count.
    pub fn revoke(&self, which: &str) {
        certificate_file::revoke(&self.kept.client_list(), which, 0).expect("something to revoke");
    }

    /// Writes down and tells what has happened to the certificates of services, as the control thread does every few seconds.
    pub async fn settle(&self, certs: &mut ServiceCerts) -> Settled {
        certs.settle(&self.running().shared, &self.kept).await
    }

    /// Opens the page that helps to trust the authority for so long, as the verb of the control socket does.
    pub fn onboard(&self, life: Duration) -> Vec<u8> {
        let authority = self.kept.authority(&self.machine).expect("an authority");
        self.running().shared.onboard.open(Opened {
            until: Instant::now() + life,
            certificate: authority.root_der().to_vec(),
            fingerprint: authority.fingerprint(),
        });
        authority.root_der().to_vec()
    }

    /// Makes a link, as the verb of the control socket does: its id and its secret.
    pub fn share(&self, host: Option<&str>, path: &str, life: Duration) -> (String, String) {
        let limits = Limits {
            host: host.map(str::to_owned),
            path: path.to_owned(),
        };
        let shares = &self.running().shared.shares;
        let made = shares.open(limits, life, Instant::now(), SystemTime::now());
        let (id, secret) = made.expect("room for a link");
        (id, secret.expose().clone())
    }

    /// Revokes a link.
    pub fn unshare(&self, id: &str) -> bool {
        let gone = self
            .running()
            .shared
            .shares
            .revoke(Some(id), Instant::now());
        self.running().ring();
        gone > 0
    }

    /// Ends it and begins anew in the same place.
    pub fn restart(&mut self) {
        if let Some(running) = self.running.take() {
            running.stop();
        }
        self.kept = Kept::new(self.dir.path().join("state"));
        let plan = planned(self.path("loopgate.toml"), &self.machine, &self.kept);
        let running = start(plan).expect("a gate");
        self.address = running.addresses.first().copied().unwrap_or(ANY);
        self.running = Some(running);
    }

    /// A file beside the configuration.
    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Puts another file in its place and has it taken, or says why it was not.
    pub async fn reload(&mut self, text: &str) -> Result<(), String> {
        let file = self.path("loopgate.toml");
        std::fs::write(&file, text).expect("a configuration file");
        let running = self.running.as_mut().expect("it runs until it is dropped");
        let site = Site {
            source: &Source::File(file),
            kept: &self.kept,
            machine: self.machine.clone(),
        };
        let taken = reload(running, &site).await;
        taken
            .map(drop)
            .map_err(|rejected| rejected.report.render(false, 100))
    }

    /// The addresses that it listens on.
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.running().addresses
    }

    /// The name of the session cookie.
    pub fn cookie(&self) -> String {
        self.running()
            .shared
            .live
            .current()
            .cookie
            .as_str()
            .to_owned()
    }

    /// HTTP/1.1 over TLS to `app.lan`.
    pub async fn h1(&self) -> Client {
        Client::tls(self.address, Some("app.lan"), "http/1.1").await
    }

    /// HTTP/2 over TLS to `app.lan`.
    pub async fn h2(&self) -> H2 {
        H2::open(Client::tls(self.address, Some("app.lan"), "h2").await).await
    }

    /// What Prometheus would read.
    pub fn metrics(&self) -> String {
        self.running().metrics()
    }

    /// How many clients are connected.
    pub fn connections(&self) -> usize {
        self.running().connections()
    }

    /// What clients hold, and how many connections to services are open.
    pub fn held(&self) -> (usize, usize) {
        self.running().held()
    }

    /// How many panics were caught.
    pub fn panics(&self) -> u64 {
        let metrics = &self.running().shared.metrics;
        metrics.panics.load(std::sync::atomic::Ordering::Relaxed)
    }

    /// Waits until nobody is connected.
    pub async fn deserted(&self) {
        until("the last connection to end", || self.connections() == 0).await;
    }

    /// The access log, once it has `n` lines.
    pub async fn log(&self, n: usize) -> Vec<Value> {
        let mut lines = Vec::new();
        until("the access log", || {
            self.running().shared.log.flush(Duration::from_secs(1));
            let text = std::fs::read_to_string(self.path("access.log")).unwrap_or_default();
            // Somebody who reads while a line is written may see the begin of it.
            let whole = text.rfind('\n').map_or("", |end| &text[..end]);
            lines = whole
                .lines()
                .map(|l| serde_json::from_str(l).expect("JSON"))
                .collect();
            lines.len() >= n
        })
        .await;
        lines
    }

    /// The word of the refusal in line `n` of the access log, from 1.
    pub async fn word(&self, n: usize) -> String {
        self.log(n).await[n - 1]["reason"]
            .as_str()
            .unwrap_or("none")
            .to_owned()
    }

    /// Reads the file again and puts what it says in force, changed by the test.
    pub fn change(&self, change: impl FnOnce(&mut Plan)) {
        let mut plan = planned(self.path("loopgate.toml"), &self.machine, &self.kept);
        change(&mut plan);
        self.running().put(plan);
    }

    /// The service of a route of the plan in force, by its place in the file.
    pub fn service(&self, at: usize) -> std::sync::Arc<loopgate::upstream::Upstream> {
        std::sync::Arc::clone(&self.running().shared.live.current().routes[at].upstream)
    }

    /// What the file as it is gives warnings of.
    pub fn warnings(&self) -> String {
        let source = Source::File(self.path("loopgate.toml"));
        match source.plan(&self.machine, &self.kept, None) {
            Ok((_, warnings)) => warnings.render(false, 100),
            Err(report) => panic!("{}", report.render(false, 100)),
        }
    }

    /// Begins the end; true when everything finished within `limit`.
    pub async fn drain(&self, limit: Duration) -> bool {
        self.running().drain(limit).await
    }

    fn running(&self) -> &Running {
        self.running.as_ref().expect("it runs until it is dropped")
    }
}

impl Drop for Gate {
    fn drop(&mut self) {
        if let Some(running) = self.running.take() {
            running.stop();
        }
    }
}

fn planned(file: PathBuf, machine: &Machine, kept: &Kept) -> Plan {
    match Source::File(file).plan(machine, kept, None) {
        Ok((plan, _)) => plan,
        Err(report) => panic!("{}", report.render(false, 100)),
    }
}

/// A route table: `access` is written as in the file.
pub fn route(host: &str, path: &str, upstream: &Upstream, access: &str) -> String {
    let address = upstream.address;
    format!(
        "[[route]]\nhosts = [\"{host}\"]\npath = \"{path}\"\nupstream = \"{address}\"\naccess = {access}\n"
    )
}
