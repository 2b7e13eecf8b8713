//! Whose socket it is: from the socket's inode to the process that holds it, as far as this user may look.
//! Costs a `readlink` for each open descriptor of each process that may be inspected, so it is asked only where the answer is shown.

use std::collections::{HashMap, HashSet};
use std::fs;
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// A process, as a person knows it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Process {
    /// Its number.
    pub pid: u32,
    /// The short name that the kernel has for it, at most 15 bytes.
    pub name: String,
    /// Its arguments, the program first. Never shown as a whole: they may hold secrets.
    pub arguments: Vec<String>,
    /// There were more arguments than are read.
    pub is_cut: bool,
    /// The container it runs in.
    pub container: Option<String>,
}

/// More bytes of arguments than this are not read.
const MOST_ARGUMENTS: u64 = 128 * 1024;

/// More descriptors than this are not looked at; what is left then has no known owner.
const MOST_DESCRIPTORS: usize = 1_000_000;

impl Process {
    /// Reads what is known about a process; `None` when it is gone.
    pub fn read(pid: u32) -> Option<Self> {
        let dir = Path::new("/proc").join(pid.to_string());
        let comm = fs::read_to_string(dir.join("comm")).ok()?;
        let mut bytes = Vec::new();
        if let Ok(file) = fs::File::open(dir.join("cmdline")) {
            // What cannot be read is not there: a process that has just ended.
            let _ = file.take(MOST_ARGUMENTS + 1).read_to_end(&mut bytes);
        }
        let cgroup = fs::read_to_string(dir.join("cgroup")).unwrap_or_default();
        let (arguments, is_cut) = arguments(&bytes);
        let program = fs::read_link(dir.join("exe")).unwrap_or_default();
        Some(Self {
            pid,
            name: name(comm.trim_end(), &arguments, &program),
            arguments,
            is_cut,
            container: container(&cgroup),
        })
    }

    /// The name with the number, free of control characters: a process chooses its own name.
    pub fn label(&self) -> String {
        let name = super::words::plain(&self.name);
        match &self.container {
            Some(container) => format!("{name} (pid {}, {container})", self.pid),
            None => format!("{name} (pid {})", self.pid),
        }
    }
}

/// The words of a `/proc/PID/cmdline`, and whether they are cut short; pure.
fn arguments(bytes: &[u8]) -> (Vec<String>, bool) {
    let most = usize::try_from(MOST_ARGUMENTS).unwrap_or(usize::MAX);
    let words = bytes[..bytes.len().min(most)].split(|byte| *byte == 0);
    let words = words
        .filter(|word| !word.is_empty())
        .map(|word| String::from_utf8_lossy(word).into_owned());
    (words.collect(), bytes.len() > most)
}

/// Names of a thread, which say nothing of the program: Node.js from 24 on, and what others call their first one.
pub(super) const NAMELESS: [&str; 3] = ["MainThread", "main", "exe"];

/// What a process is called: by the kernel, or where that is no help by its first argument, or by the file of its program; pure.
fn name(comm: &str, arguments: &[String], program: &Path) -> String {
    if !NAMELESS.contains(&comm) {
        return comm.to_owned();
    }
    let file = |path: &str| {
        let path = path.split(' ').next().unwrap_or_default();
        let file = path.rsplit('/').next().unwrap_or_default();
        let file = file.trim_end_matches(':');
        (!file.is_empty()).then(|| file.to_owned())
    };
    let first = arguments.first().and_then(|first| file(first));
    first
        .or_else(|| file(program.to_str()?))
        .unwrap_or_else(|| comm.to_owned())
}

/// Whether a process runs the very program that this one does: the file, not its name. False where it cannot be seen.
pub fn is_our_program(pid: u32) -> bool {
    let program = |pid: &str| {
        let about = fs::metadata(format!("/proc/{pid}/exe")).ok()?;
        Some((about.dev(), about.ino()))
    };
    let ours = program("self");
    ours.is_some() && program(&pid.to_string()) == ours
}

/// Whether a process runs the system's `sshd`: a file of that name that belongs to root. False where it cannot be seen.
pub fn is_sshd(pid: u32) -> bool {
    let exe = format!("/proc/{pid}/exe");
    let is_named = |path: std::path::PathBuf| {
        let file = path.file_name().and_then(|name| name.to_str());
        file.is_some_and(|name| name.trim_end_matches(" (deleted)") == "sshd")
    };
    fs::read_link(&exe).is_ok_and(is_named) && fs::metadata(&exe).is_ok_and(|m| m.uid() == 0)
}

/// The numbers of all processes, lowest first; pid 1 last, since it often holds sockets on behalf of the service that uses them.
pub fn processes() -> Vec<u32> {
    let mut pids: Vec<u32> = fs::read_dir("/proc")
        .into_iter()
        .flatten()
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .collect();
    pids.sort_unstable_by_key(|pid| (*pid == 1, *pid));
    pids
}

/// The processes that hold these sockets. A socket is missing when its owner belongs to somebody else, or lives in another
/// process namespace. Of several holders the oldest is named.
pub fn owners(inodes: &HashSet<u64>) -> HashMap<u64, Process> {
    let mut wanted: HashSet<u64> = inodes.iter().copied().filter(|inode| *inode != 0).collect();
    let mut found = HashMap::new();
    let mut left = MOST_DESCRIPTORS;
    for pid in processes() {
        if wanted.is_empty() || left == 0 {
            break;
        }
        let mut process = None;
        for inode in socket_inodes(&format!("/proc/{pid}/fd"), &mut left) {
            if !wanted.contains(&inode) {
                continue;
            }
            // One that has just ended leaves it to whoever holds the socket as well.
            let process = process.get_or_insert_with(|| Process::read(pid));
            if let Some(process) = process {
                wanted.remove(&inode);
                found.insert(inode, process.clone());
            }
        }
    }
    found
}

/// A process that holds one of the sockets that were asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Holder {
    /// The process.
    pub process: Process,
    /// What it holds of all that was asked for.
    pub inodes: HashSet<u64>,
}

/// Every process that holds one of these sockets, with those of the others that it holds besides.
pub fn holders(one: &HashSet<u64>, others: &HashSet<u64>) -> Vec<Holder> {
    let mut found = Vec::new();
    if one.is_empty() {
        return found;
    }
    let mut left = MOST_DESCRIPTORS;
    for pid in processes() {
        let inodes: HashSet<u64> = socket_inodes(&format!("/proc/{pid}/fd"), &mut left)
            .filter(|inode| one.contains(inode) || others.contains(inode))
            .collect();
        if !one.is_disjoint(&inodes)
            && let Some(process) = Process::read(pid)
        {
            found.push(Holder { process, inodes });
        }
    }
    found
}

/// Of these sockets those that a process which is none of the good ones holds as well, as far as it can be seen.
pub fn held_beside(inodes: &HashSet<u64>, is_good: impl Fn(u32) -> bool) -> HashSet<u64> {
    let mut left = MOST_DESCRIPTORS;
    let mut found = HashSet::new();
    for pid in processes() {
        let mut held = socket_inodes(&format!("/proc/{pid}/fd"), &mut left)
            .filter(|inode| inodes.contains(inode))
            .peekable();
        if held.peek().is_some() && !is_good(pid) {
            found.extend(held);
        }
    }
    found
}

/// The inodes of the sockets that these processes hold, as far as they may be inspected.
pub fn held_by(pids: &[u32]) -> HashSet<u64> {
    let mut left = MOST_DESCRIPTORS;
    let mut held = HashSet::new();
    for pid in pids {
        held.extend(socket_inodes(&format!("/proc/{pid}/fd"), &mut left));
    }
    held
}

/// The inodes of the sockets that this process itself holds.
pub fn own_inodes() -> HashSet<u64> {
    let mut left = MOST_DESCRIPTORS;
    socket_inodes("/proc/self/fd", &mut left).collect()
}

fn socket_inodes<'a>(dir: &str, left: &'a mut usize) -> impl Iterator<Item = u64> + 'a {
    fs::read_dir(dir)
        .into_iter()
        .flatten()
        .take_while(move |_| {
            *left = left.saturating_sub(1);
            *left > 0
        })
        .filter_map(|entry| {
            let link = fs::read_link(entry.ok()?.path()).ok()?;
            let inode = link.to_str()?.strip_prefix("socket:[")?.strip_suffix(']')?;
            inode.parse().ok()
        })
}

/// The container that a `/proc/PID/cgroup` names, as `docker 0123456789ab`; pure.
pub fn container(cgroup: &str) -> Option<String> {
    // The innermost one: a pod's own path has segments for the pod above those for the container.
    cgroup
        .lines()
        .filter_map(|line| line.splitn(3, ':').nth(2))
        .flat_map(|path| path.split('/'))
        .filter_map(segment)
        .next_back()
}

const RUNTIMES: [(&str, &str); 7] = [
    ("docker-", "docker"),
    ("libpod-", "podman"),
    ("cri-containerd-", "containerd"),
    ("crio-", "cri-o"),
    ("nerdctl-", "containerd"),
    ("lxc.payload.", "lxc"),
    ("machine-", "machine"),
];

fn segment(segment: &str) -> Option<String> {
    let is_id = |text: &str| text.len() == 64 && text.bytes().all(|c| c.is_ascii_hexdigit());
    let bare = segment.strip_suffix(".scope").unwrap_or(segment);
    if is_id(bare) {
        return Some(format!("container {}", &bare[..12]));
    }
    let (runtime, name) = RUNTIMES
        .iter()
        .find_map(|(prefix, runtime)| Some((runtime, bare.strip_prefix(prefix)?)))?;
    match *runtime {
        "lxc" | "machine" => Some(format!("{runtime} {}", name.replace("\\x2d", "-"))),
        _ => is_id(name).then(|| format!("{runtime} {}", &name[..12])),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn containers_by_their_cgroup() {
        let id = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";
        for (cgroup, want) in [
            (
                format!("0::/system.slice/docker-{id}.scope\n"),
                Some("docker 0123456789ab"),
            ),
            (
                format!("12:pids:/docker/{id}\n0::/docker/{id}\n"),
                Some("container 0123456789ab"),
            ),
            (
                format!(
                    "0::/user.slice/user-1000.slice/user@1000.service/user.slice/libpod-{id}.scope/container\n"
                ),
                Some("podman 0123456789ab"),
            ),
            (
                format!("0::/kubepods.slice/kubepods-pod12.slice/cri-containerd-{id}.scope\n"),
                Some("containerd 0123456789ab"),
            ),
            (
                "0::/lxc.payload.web/system.slice/nginx.service\n".to_owned(),
                Some("lxc web"),
            ),
            (
                "0::/machine.slice/machine-a\\x2db.scope\n".to_owned(),
                Some("machine a-b"),
            ),
            (
                "0::/user.slice/user-1000.slice/session-2.scope\n".to_owned(),
                None,
            ),
            (
                "0::/system.slice/docker-registry.service\n".to_owned(),
                None,
            ),
            ("0::/\n".to_owned(), None),
            (String::new(), None),
        ] {
            assert_eq!(container(&cgroup).as_deref(), want, "{cgroup}");
        }
    }

    #[test]
    fn a_socket_of_this_process_is_found_and_a_strangers_is_not() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let fd = std::os::fd::AsRawFd::as_raw_fd(&listener);
        let inode = fs::metadata(format!("/proc/self/fd/{fd}")).unwrap().ino();
        assert!(own_inodes().contains(&inode));
        // A child that another test has just forked has all that is ours, until it is a program of its own.
        let is_found = (0..200).any(|_| {
            std::thread::sleep(std::time::Duration::from_millis(10));
            let found = owners(&HashSet::from([inode, 0, u64::MAX]));
            assert!(found.keys().eq([&inode]), "{found:?}");
            found[&inode].pid == std::process::id()
        });
        assert!(is_found);
    }

    #[test]
    fn a_program_is_known_by_its_file() {
        assert!(is_our_program(std::process::id()));
        let mut other = std::process::Command::new("sleep")
            .arg("60")
            .spawn()
            .unwrap();
        let is_ours = is_our_program(other.id());
        other.kill().unwrap();
        other.wait().unwrap();
        assert!(!is_ours && !is_our_program(u32::MAX));
    }

    #[test]
    fn a_thread_is_called_by_its_program() {
        for (comm, line, program, want) in [
            ("node", "whatever", "/usr/bin/node", "node"),
            ("MainThread", "/opt/node24/bin/node server.js", "", "node"),
            ("MainThread", "next-server (v15.1)", "", "next-server"),
            ("MainThread", "", "/opt/node24/bin/node", "node"),
            ("MainThread", "", "", "MainThread"),
        ] {
            let arguments: Vec<String> = line.split(' ').map(str::to_owned).collect();
            assert_eq!(
                name(comm, &arguments, Path::new(program)),
                want,
                "{comm} {line}"
            );
        }
    }

    #[test]
    fn all_arguments_are_read_or_it_is_said() {
        let most = usize::try_from(MOST_ARGUMENTS).unwrap();
        let many = b"-x\0".repeat(200);
        assert_eq!(arguments(&many), (vec!["-x".to_owned(); 200], false));
        assert!(!arguments(&vec![b'x'; most]).1);
        assert!(arguments(&vec![b'x'; most + 1]).1);
    }

    #[test]
    fn a_name_cannot_move_the_cursor() {
        let process = Process {
            pid: 7,
            name: "evil\u{1b}[2J".to_owned(),
            ..Process::default()
        };
        assert_eq!(process.label(), "evil?[2J (pid 7)");
    }
}
