//! `loopgate run`: starts a command and does what `expose` does with the service that it opens. Standard output is the command's;
//! what we have to say goes to standard error.

use std::cell::Cell;
use std::ffi::OsString;
use std::net::TcpListener;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use tokio::runtime::Builder;

use super::args::{self, Expose, HostHeader};
use super::banner::{UpstreamState, Url};
use super::expose::{Shown, banner, config, person, unchecked, urls};
use super::output::{Output, plain};
use super::serve::{Ground, compiled, control, ground, started};
use super::{Code, Failure};
use crate::app::{self, Ears, Lead, Running, Site, Source};
use crate::child::{Family, Follower, Given, HOST, News, Signals, Wish, command};
use crate::config::raw;

/// Runs the command to its end and gives its exit code, or ours where it was never meant to be served.
pub(super) fn run(output: &Output, asked: &args::Run, verbose: bool) -> Result<u8, Failure> {
    let port = asked.port.map_or_else(free_port, Ok)?;
    let (users, password) = person(&asked.options)?;
    let mut config = config(&format!("localhost:{port}"), &asked.options);
    if asked.options.upstream_cert.is_none() {
        // What we start ourselves is known by its process, and dev servers make a new certificate whenever they start.
        for route in &mut config.route {
            route.upstream_cert = raw::UpstreamCert::Word("any".into());
        }
    }
    if !verbose {
        config.log.access = raw::LogTarget::Off;
    }
    let ground = ground()?;
    let source = Source::Led(Box::new(Lead::new(config, users)));
    let plan = compiled(output, &source, &ground)?;
    let authority = authority(&asked.options, &ground)?;
    let running = started(plan, &ground.machine, crate::app::start)?;
    let urls = urls(&running.addresses, &asked.options, &ground);
    let target = shown(&asked.command);
    let shown = Shown {
        target: &target,
        upstream_state: UpstreamState::Starting,
        urls: &urls,
        password: password.as_ref(),
        unknown: &[],
    };
    output.warn(&banner(output, &shown, &asked.options, &ground));
    let given = Given {
        port,
        url: urls.first().map(|url| url.url.as_str()),
        authority: authority.as_deref(),
    };
    let command = command(&asked.command, &given);
    let runtime = Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(Failure::failed)?;
    let run = Run {
        output,
        wish: wish(asked, port, &urls),
        is_auto: asked.options.host_header == HostHeader::Auto,
        is_any: matches!(asked.options.upstream_cert.as_deref(), None | Some("any")),
        was_unchecked: Cell::new(false),
    };
    runtime.block_on(run.until_over(command, &source, running, ground, asked.options.duration))
}

struct Run<'a> {
    output: &'a Output,
    wish: Wish,
    /// `--host-header auto`.
    is_auto: bool,
    /// Any certificate of the service is taken.
    is_any: bool,
    /// That was said.
    was_unchecked: Cell<bool>,
}

impl Run<'_> {
    async fn until_over(
        self,
        mut command: Command,
        source: &Source,
        running: Running,
        ground: Ground,
        limit: Option<Duration>,
    ) -> Result<u8, Failure> {
        // Before the child is there: none of its signals is missed.
        let signals = Signals::listen().map_err(Failure::failed)?;
        let ears = Ears::open().map_err(Failure::failed)?;
        let family = match Family::start(&mut command) {
            Ok(family) => family,
            Err(error) => {
                self.output.warn(&error.to_string());
                running.stop();
                return Ok(error.code());
            }
        };
        let mut follower = Follower::new(family, signals, self.wish.clone());
        let Ground {
            machine,
            kept,
            state,
        } = ground;
        let control = control(&running, &state);
        let site = Site {
            source,
            kept: &kept,
            machine,
        };
        let gate = app::until_stopped(running, site, control, limit, ears);
        tokio::pin!(gate);
        let mut gate_ended = None;
        let outcome = loop {
            tokio::select! {
                ended = &mut gate => {
                    gate_ended = Some(ended);
                    break Outcome::Over { at_once: false };
                }
                news = follower.next() => match news {
                    Ok(news) => if let Some(outcome) = self.act(news, source) { break outcome },
                    Err(error) => {
                        self.output.warn(&format!("cannot read the socket table: {error}"));
                        break Outcome::Over { at_once: false };
                    }
                }
            }
        };
        let at_once = matches!(outcome, Outcome::Over { at_once: true });
        let left = follower.family().end(at_once).await;
        if !left.is_empty() {
            let pids: Vec<String> = left.iter().map(ToString::to_string).collect();
            self.output.warn(&format!(
                "still running, and not ours to end: {}",
                pids.join(", ")
            ));
        }
        if let Source::Led(lead) = source {
            lead.end();
        }
        let ended = match gate_ended {
            Some(ended) => ended,
            None => gate.await,
        };
        ended.map_err(Failure::failed)?;
        match outcome {
            Outcome::Exposed(words) => Err(Failure::new(Code::Exposed, words)),
            Outcome::Over { .. } => Ok(follower.family().code().unwrap_or(Code::Failed as u8)),
        }
    }

    /// Does what the news asks for; gives the end when that is it.
    fn act(&self, news: News, source: &Source) -> Option<Outcome> {
        match news {
            News::Front(target) => {
                if let Source::Led(lead) = source {
                    lead.front(&target);
                }
                self.output
                    .say(&format!("loopgate: {target} is on the network now"));
                let is_news = self.is_any && target.starts_with("https://");
                if is_news && !self.was_unchecked.replace(true) {
                    self.output.say(&unchecked(&target));
                }
            }
            News::Gone => self
                .output
                .say("loopgate: the service has closed its port; the page waits for it"),
            News::Name(refused) if self.is_auto && refused.opens_in_local_mode() => {
                if let Source::Led(lead) = source {
                    lead.call_local();
                }
                let fact = refused.fact(&self.wish.host);
                self.output.say(&format!(
                    "loopgate: {fact}; it is called localhost from now on"
                ));
            }
            News::Name(refused) => self
                .output
                .say(&format!("loopgate: {}", refused.sentence(&self.wish.host))),
            News::Late => self.output.say(&self.late()),
            News::Exposed(words) if self.wish.is_lenient => {
                self.output.warn(&format!("loopgate: {words}"));
            }
            News::Exposed(words) => {
                return Some(Outcome::Exposed(format!(
                    "{words}\nThe command was stopped. If you mean that, add `--unsafe-upstream`."
                )));
            }
            News::Ended(_) => return Some(Outcome::Over { at_once: false }),
            News::Overdue { at_once } => return Some(Outcome::Over { at_once }),
        }
        None
    }

    fn late(&self) -> String {
        let port = self.wish.port;
        if self.wish.only {
            return format!("loopgate: the command has not opened port {port} yet");
        }
        format!(
            "loopgate: the command has not opened a port that answers HTTP yet; it was told PORT={port}. \
             If the service belongs to another program, name its port with `--port`"
        )
    }
}

/// How it ends.
enum Outcome {
    /// The child has ended, or must.
    Over { at_once: bool },
    /// It can be reached around us.
    Exposed(String),
}

fn wish(asked: &args::Run, port: u16, urls: &[Url]) -> Wish {
    let visited = urls.first().and_then(|url| url.url.split('/').nth(2));
    let host = match asked.options.host_header {
        HostHeader::Keep | HostHeader::Auto => visited.map(str::to_owned),
        HostHeader::Upstream => None,
    };
    Wish {
        port,
        only: asked.port.is_some(),
        is_lenient: asked.options.unsafe_upstream,
        host: host.unwrap_or_else(|| format!("localhost:{port}")),
    }
}

/// The file with the certificate that the child has to trust to call itself; none when the certificate is the person's own.
fn authority(options: &Expose, ground: &Ground) -> Result<Option<PathBuf>, Failure> {
    if options.tls_cert.is_some() || options.unsafe_plain_http {
        return Ok(None);
    }
    let path = ground.kept.authority_file(&ground.machine);
    path.map(Some).map_err(Failure::failed)
}

fn free_port() -> Result<u16, Failure> {
    let listener = TcpListener::bind((HOST, 0)).map_err(Failure::failed)?;
    Ok(listener.local_addr().map_err(Failure::failed)?.port())
}

/// The command as it is shown: what was typed, cut where it is long.
fn shown(words: &[OsString]) -> String {
    const MOST: usize = 40;
    let all: Vec<_> = words.iter().map(|word| word.to_string_lossy()).collect();
    let all = all.join(" ");
    let all = plain(&all);
    match all.char_indices().nth(MOST) {
        Some((at, _)) => format!("{}…", &all[..at]),
        None => all.into_owned(),
    }
}
