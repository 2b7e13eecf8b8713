//! What an exposed process is, and the exact words that keep it on loopback. The table is `advice.txt`, made to be extended.

use std::net::SocketAddr;

use super::owner::Process;

/// What a process is and how to repair it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Advice {
    /// What it is, as `Vite`; `None` where the table has no line for it.
    pub what: Option<&'static str>,
    /// What to write or start instead, one line.
    pub repair: String,
}

const TABLE: &str = include_str!("advice.txt");

/// The advice for whoever holds a port; without a process, or for an unknown one, what holds for every program.
pub fn advice(process: Option<&Process>, bound: SocketAddr) -> Advice {
    let port = bound.port();
    let row = process.and_then(|process| {
        let words = words(process);
        rows().find(|row| row.fits(&words))
    });
    let Some(row) = row else {
        return Advice {
            what: None,
            repair: "bind it to 127.0.0.1 (look for an option or setting named host, bind, listen or address)".to_owned(),
        };
    };
    let inside = process
        .and_then(|process| after(process, "-container-port"))
        .unwrap_or("PORT");
    let host = match bound.ip().to_canonical() {
        ip if ip.is_unspecified() => "\"0.0.0.0\", \"::\" or empty".to_owned(),
        ip => format!("\"{ip}\""),
    };
    Advice {
        what: Some(row.what),
        repair: row
            .repair
            .replace("{port}", &port.to_string())
            .replace("{inside}", inside)
            .replace("{host}", &host),
    }
}

struct Row {
    words: &'static str,
    what: &'static str,
    repair: &'static str,
}

impl Row {
    fn fits(&self, words: &[&str]) -> bool {
        self.words
            .split_ascii_whitespace()
            .all(|group| group.split('/').any(|word| words.contains(&word)))
    }
}

fn rows() -> impl Iterator<Item = Row> {
    TABLE
        .lines()
        .filter(|line| !line.starts_with('#') && !line.trim().is_empty())
        .filter_map(|line| {
            let mut parts = line.splitn(3, '|').map(str::trim);
            Some(Row {
                words: parts.next()?,
                what: parts.next()?,
                repair: parts.next()?,
            })
        })
}

/// The words that tell what a process is: its name and arguments, of each the file name, the same without its ending, and without a
/// version. A program may have written a title over its arguments, so they are split at spaces too.
pub fn words(process: &Process) -> Vec<&str> {
    let mut words = Vec::new();
    for word in std::iter::once(&process.name)
        .chain(&process.arguments)
        .flat_map(|argument| argument.split(' '))
    {
        let file = word
            .rsplit('/')
            .next()
            .unwrap_or(word)
            .trim_end_matches(':');
        let endings = [
            ".js",
            ".mjs",
            ".cjs",
            ".ts",
            ".py",
            ".rb",
            ".exe",
            ".openbsd",
            ".traditional",
        ];
        let stem = endings
            .iter()
            .find_map(|ending| file.strip_suffix(ending))
            .unwrap_or(file);
        let bare = stem.trim_end_matches(|c: char| c.is_ascii_digit() || c == '.');
        // `socat-1.8`
        let plain = bare.trim_end_matches('-');
        words.extend(
            [file, stem, bare, plain]
                .iter()
                .filter(|word| !word.is_empty()),
        );
    }
    // What `go run` starts has the name of its folder, in one that says where it comes from.
    let program = process.arguments.first();
    if program.is_some_and(|path| path.contains("/go-build") && path.contains("/exe/")) {
        words.push("go");
    }
    words
}

fn after<'a>(process: &'a Process, option: &str) -> Option<&'a str> {
    let at = process.arguments.iter().position(|word| word == option)?;
    process.arguments.get(at + 1).map(String::as_str)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ANY: SocketAddr =
        SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::UNSPECIFIED), 3000);

    #[test]
    fn a_program_on_one_address_is_told_that_one() {
        let python = process("python3 app.py");
        for (bound, want) in [
            ("192.168.1.5:3000", "its host is \"192.168.1.5\": make it"),
            ("[fd00::5]:3000", "its host is \"fd00::5\": make it"),
            (
                "0.0.0.0:3000",
                "its host is \"0.0.0.0\", \"::\" or empty: make it",
            ),
        ] {
            let got = advice(Some(&python), bound.parse().unwrap()).repair;
            assert!(got.contains(want), "{bound}: {got}");
        }
    }

    fn process(line: &str) -> Process {
        let arguments: Vec<String> = line.split(' ').map(str::to_owned).collect();
        let name = arguments[0].rsplit('/').next().unwrap();
        Process {
            pid: 7,
            name: name.chars().take(15).collect(),
            arguments,
            container: None,
            is_cut: false,
        }
    }

    #[test]
    fn every_line_of_the_table_can_be_read_and_reached() {
        let lines = TABLE
            .lines()
            .filter(|line| line.contains('|') && !line.starts_with('#'));
        assert_eq!(rows().count(), lines.clone().count());
        assert!(rows().count() > 90);
        for row in rows() {
            assert!(!row.words.is_empty() && !row.what.is_empty() && !row.repair.is_empty());
            let words: Vec<&str> = row
                .words
                .split_ascii_whitespace()
                .filter_map(|group| group.split('/').next())
                .collect();
            let first = rows().find(|other| other.fits(&words)).unwrap();
            assert_eq!(first.what, row.what, "a line above hides `{}`", row.words);
        }
    }

    #[test]
    fn real_command_lines_get_the_repair_of_their_program() {
        for (line, repair) in [
            (
                "python3 -m http.server 8000",
                "`python3 -m http.server 3000 --bind 127.0.0.1`",
            ),
            (
                "/usr/bin/python3.11 -m http.server",
                "`python3 -m http.server 3000 --bind 127.0.0.1`",
            ),
            (
                "node /app/node_modules/.bin/vite --host",
                "--host 127.0.0.1",
            ),
            (
                "node /app/node_modules/vite/bin/vite.js --host 0.0.0.0",
                "--host 127.0.0.1",
            ),
            ("next-server (v15.1.0)", "-H 127.0.0.1"),
            ("node /app/node_modules/.bin/next dev", "-H 127.0.0.1"),
            (
                "python manage.py runserver 0.0.0.0:8000",
                "runserver 127.0.0.1:3000",
            ),
            (
                "/venv/bin/python /venv/bin/flask run --host=0.0.0.0",
                "flask run --host 127.0.0.1",
            ),
            (
                "/venv/bin/python /venv/bin/uvicorn app:app --host 0.0.0.0",
                "uvicorn … --host 127.0.0.1",
            ),
            ("gunicorn: master [app]", "--bind 127.0.0.1:3000"),
            (
                "puma 6.4.2 (tcp://0.0.0.0:3000) [app]",
                "rails server -b 127.0.0.1",
            ),
            (
                "ruby bin/rails server -b 0.0.0.0",
                "rails server -b 127.0.0.1",
            ),
            (
                "/usr/bin/python3 /usr/bin/jupyter-lab --ip=0.0.0.0",
                "--ip 127.0.0.1",
            ),
            (
                "python -m streamlit run app.py",
                "--server.address 127.0.0.1",
            ),
            ("/usr/local/bin/ollama serve", "OLLAMA_HOST=127.0.0.1:3000"),
            (
                "/usr/bin/docker-proxy -proto tcp -host-ip 0.0.0.0 -host-port 3000 -container-ip 172.17.0.2 -container-port 80",
                "`-p 127.0.0.1:3000:80`",
            ),
            ("redis-server *:6379", "bind 127.0.0.1"),
            ("postgres: checkpointer", "listen_addresses = 'localhost'"),
            (
                "nginx: master process /usr/sbin/nginx",
                "listen 127.0.0.1:3000;",
            ),
            ("/usr/bin/java -jar app.jar", "--server.address=127.0.0.1"),
            ("php8.2 -S 0.0.0.0:8000", "php -S 127.0.0.1:3000"),
            ("node server.js", "server.listen(3000, \"127.0.0.1\")"),
            ("python3 app.py", "make it \"127.0.0.1\""),
            (
                "/tmp/go-build1/exe/main",
                "ListenAndServe(\"127.0.0.1:3000\"",
            ),
            (
                "/root/.cache/go-build/3f/exe/server -v",
                "ListenAndServe(\"127.0.0.1:3000\"",
            ),
            ("/opt/go-builder/main", "bind it to 127.0.0.1"),
            (
                "node /app/node_modules/.bin/webpack serve --host 0.0.0.0",
                "webpack serve --host 127.0.0.1 --port 3000",
            ),
            (
                "/venv/bin/python3 /venv/bin/django-admin runserver 0:3000",
                "django-admin runserver 127.0.0.1:3000",
            ),
            (
                "/venv/bin/python -m uvicorn app:app --host 0.0.0.0",
                "uvicorn … --host 127.0.0.1 --port 3000",
            ),
            (
                "/venv/bin/python /venv/bin/gunicorn -b 0.0.0.0:3000 app:app",
                "gunicorn … --bind 127.0.0.1:3000",
            ),
            (
                "/usr/bin/python3 -m notebook --ip=*",
                "jupyter lab --ip 127.0.0.1 --port 3000",
            ),
            (
                "/venv/bin/python /venv/bin/gradio app.py",
                "GRADIO_SERVER_NAME=127.0.0.1",
            ),
            ("deno run -A main.ts", "deno serve --host 127.0.0.1"),
            (
                "/root/.bun/bin/bun run server.ts",
                "Bun.serve({ hostname: \"127.0.0.1\", port: 3000",
            ),
            (
                "hugo server --bind 0.0.0.0",
                "hugo server --bind 127.0.0.1 --port 3000",
            ),
            (
                "ruby /usr/bin/jekyll serve -H 0.0.0.0",
                "jekyll serve --host 127.0.0.1 --port 3000",
            ),
            (
                "/usr/lib/jvm/java-17-openjdk/bin/java -jar spring.jar --server.port=3000",
                "`--server.address=127.0.0.1`",
            ),
            (
                "dotnet run --urls http://0.0.0.0:3000",
                "--urls http://127.0.0.1:3000",
            ),
            (
                "caddy run --config /etc/caddy/Caddyfile",
                "`bind 127.0.0.1` in the site's block",
            ),
            (
                "/usr/lib/postgresql/15/bin/postgres -D /data",
                "listen_addresses = 'localhost'",
            ),
            ("/usr/sbin/nginx -g daemon off;", "listen 127.0.0.1:3000;"),
            (
                "node /app/node_modules/next/dist/bin/next start",
                "next dev -H 127.0.0.1 -p 3000",
            ),
            ("ssh -N -g -L 3000:db:5432 bastion", "leave `-g` out"),
        ] {
            let got = advice(Some(&process(line)), ANY).repair;
            assert!(got.contains(repair), "{line}: {got}");
            assert!(
                !got.contains("{port}") && !got.contains("{inside}") && !got.contains("{host}"),
                "{line}"
            );
        }
    }

    #[test]
    fn nobody_known_gets_general_advice() {
        let general = advice(None, ANY);
        assert_eq!(general.what, None);
        assert_eq!(advice(Some(&process("mystery")), ANY), general);
    }
}
