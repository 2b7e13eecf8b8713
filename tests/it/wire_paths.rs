//! Paths: forwarded byte for byte where the site has no rules by path; where it has some, one that a decoder behind us could
//! read as another is refused.

use crate::support::gate::route;
use crate::support::message::Request;
use crate::support::table::{self, Row, Want};
use crate::support::*;
use Ruled::{Doubt, Open, Shut};

/// What becomes of a path on a site whose `/admin` is shut.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Ruled {
    /// It is none of `/admin`.
    Open,
    /// It is under `/admin`.
    Shut,
    /// It might be.
    Doubt,
}

const PATHS: &[(&str, Ruled)] = &[
    ("/", Open),
    ("/a", Open),
    ("/a/", Open),
    ("/a/b.c/d", Open),
    ("/...", Open),
    ("/..a/b../.c", Open),
    ("/.well-known/x", Open),
    ("/a+b", Open),
    ("/a:b@c!d$e&f'g(h)i*j,k=l", Open),
    ("/~user", Open),
    ("/a%20b", Open),
    ("/a%2Bb", Open),
    ("/100%25", Open),
    ("/100%2520", Open),
    ("/caf%c3%a9", Open),
    ("/%E2%82%AC", Open),
    ("/a%C2%85b", Open),
    ("/administrator", Open),
    ("/x/admin", Open),
    ("/?/../admin", Open),
    ("/a?b=%2e%2e%2fadmin;x//y\\z%00", Open),
    ("/admin", Shut),
    ("/admin/", Shut),
    ("/admin/x/y", Shut),
    ("/admin?x", Shut),
    ("/%61dmin", Shut),
    ("/admi%6E/x", Shut),
    ("/%61%64%6d%69%6e", Shut),
    ("//admin", Doubt),
    ("///admin", Doubt),
    ("//", Doubt),
    ("/a//b", Doubt),
    ("/a//", Doubt),
    ("/.", Doubt),
    ("/..", Doubt),
    ("/./admin", Doubt),
    ("/a/..", Doubt),
    ("/a/../admin", Doubt),
    ("/a/./b", Doubt),
    ("/admin/..", Doubt),
    ("/%2e/admin", Doubt),
    ("/a/%2e%2e/admin", Doubt),
    ("/a/%2E./admin", Doubt),
    ("/a/.%2e/admin", Doubt),
    ("/a/%252e%252e/admin", Doubt),
    ("/a/%25252e%25252e/admin", Doubt),
    ("/a/%2525252525252e%2525252525252e/admin", Doubt),
    ("/a%2f..%2fadmin", Doubt),
    ("/a%2Fb", Doubt),
    ("/admin%2f", Doubt),
    ("/a%252fb", Doubt),
    ("/a%25252Fb", Doubt),
    ("/a\\..\\admin", Doubt),
    ("/\\admin", Doubt),
    ("/%5cadmin", Doubt),
    ("/a%5C..%5Cadmin", Doubt),
    ("/a%255cb", Doubt),
    ("/;/admin", Doubt),
    ("/a;b", Doubt),
    ("/a/..;/admin", Doubt),
    ("/admin;x", Doubt),
    ("/admin%3bx", Doubt),
    ("/admin%253bx", Doubt),
    ("/a%23b", Doubt),
    ("/a%2523b", Doubt),
    ("/a%3fb", Doubt),
    ("/a%253Fb", Doubt),
    ("/admin%00", Doubt),
    ("/a%00b", Doubt),
    ("/a%2500b", Doubt),
    ("/a%0d%0aX:y", Doubt),
    ("/a%09", Doubt),
    ("/a%7f", Doubt),
    ("/a%", Doubt),
    ("/a%4", Doubt),
    ("/a%zz", Doubt),
    ("/%u0061dmin", Doubt),
    ("/%c0%ae%c0%ae/admin", Doubt),
    ("/%c0%af", Doubt),
    ("/%e0%80%af", Doubt),
    ("/%ff", Doubt),
    ("/%2561dmin", Doubt),
    ("/%25%36%31dmin", Doubt),
    ("/%252561dmin", Doubt),
    ("/%2525252561dmin", Doubt),
    // What loose applications take for `/admin`: case, dots and spaces at the end, look-alikes.
    ("/Admin", Doubt),
    ("/ADMIN", Doubt),
    ("/aDMIN/x", Doubt),
    ("/%41dmin", Doubt),
    // Marks of any alphabet, and what nobody sees.
    ("/ad%E2%83%90min", Doubt),
    ("/ad%E1%AA%B0min", Doubt),
    ("/ad%E2%83%9Dmin", Doubt),
    ("/ad%D2%83min", Doubt),
    ("/ad%D9%8Bmin", Doubt),
    ("/ad%E3%82%99min", Doubt),
    ("/ad%E0%A5%8Dmin", Doubt),
    ("/ad%E3%85%A4min", Doubt),
    ("/ad%EF%BE%A0min/x", Doubt),
    ("/ad%E1%85%9Fmin", Doubt),
    ("/ad%E1%9E%B4min", Doubt),
    ("/ad%F0%9B%B2%A0min", Doubt),
    ("/ad%EF%BF%B9min", Doubt),
    ("/ad%C2%85min", Doubt),
    ("/adx%E3%85%A4min", Open),
    ("/%E0%A4%95%E0%A4%BF%E0%A4%A4%E0%A4%BE%E0%A4%AC", Open),
    ("/%2541dmin", Doubt),
    ("/admin.", Doubt),
    ("/admin../x", Doubt),
    ("/admin%2e", Doubt),
    ("/admin...", Doubt),
    ("/admin%20", Doubt),
    ("/admin%2520", Doubt),
    ("/admin%20/x", Doubt),
    ("/%20admin", Doubt),
    ("/admin.%20.", Doubt),
    ("/.../admin", Doubt),
    ("/%20/admin", Doubt),
    ("/admin/%20", Shut),
    ("/admin%c2%a0", Doubt),
    ("/admin%e3%80%80", Doubt),
    ("/ad%e2%80%8bmin", Doubt),
    ("/ad%c2%admin", Doubt),
    ("/%ef%bd%81dmin", Doubt),
    ("/%EF%BC%A1dmin", Doubt),
    ("/%25ef%25bd%2581dmin", Doubt),
    ("/%ef%bc%8fadmin", Doubt),
    ("/x%ef%bc%8f..%ef%bc%8fadmin", Doubt),
    ("/x/%ef%bc%8e%ef%bc%8e/admin", Doubt),
    ("/x/%e2%80%a5/admin", Doubt),
    ("/x%e2%88%95..%e2%88%96admin", Doubt),
    ("/x%ef%bc%bc..%ef%bc%bcadmin", Doubt),
    ("/admin%ef%bc%9bx", Doubt),
    ("/admin%ef%bc%9fx", Doubt),
    ("/admin%ef%bc%83x", Doubt),
    ("/%ef%bc%8561dmin", Doubt),
    ("/%e2%93%90dmin", Doubt),
    ("/%f0%9d%90%9admin", Doubt),
    ("/%c3%a1dmin", Doubt),
    ("/adm%c4%b1n", Doubt),
    ("/admin::$DATA", Doubt),
    ("/admin:$i30:$INDEX_ALLOCATION/x", Doubt),
    // And what is none of it in any reading passes as it came.
    ("/Files/Report.PDF", Open),
    ("/Administrator", Open),
    ("/x/ADMIN", Open),
    ("/admin.js", Open),
    ("/admin-x", Open),
    ("/a./b%20/c", Open),
    (
        "/%E6%97%A5%E6%9C%AC%E8%AA%9E/%EF%BC%91%EF%BC%8F%EF%BC%92%EF%BC%9F",
        Open,
    ),
    ("/50%EF%BC%85", Open),
    ("/a::$DATA", Open),
];

/// A site without rules by path, and one with them.
fn gates(upstream: &Upstream) -> (Gate, Gate) {
    let all = route("app.lan", "/", upstream, "\"anyone\"");
    let shut = route("app.lan", "/admin", upstream, "\"nobody\"");
    (Gate::open(&all), Gate::open(&format!("{all}{shut}")))
}

fn rows(ruled: bool) -> Vec<Row> {
    let row = |(path, verdict): &(&'static str, Ruled)| {
        let shown: &'static str = Box::leak(format!("GET {path}").into_boxed_str());
        let want = match verdict {
            _ if !ruled => Want::Pass(shown),
            Open => Want::Pass(shown),
            Shut => Want::Told(403),
            Doubt => Want::No(400),
        };
        Row::new(
            *path,
            format!("GET {path} HTTP/1.1\r\nHost: app.lan\r\n\r\n"),
            want,
        )
    };
    PATHS.iter().map(row).collect()
}

#[tokio::test]
async fn without_rules_by_path_every_byte_passes() {
    let upstream = Upstream::ok();
    table::run(&gates(&upstream).0, &upstream, rows(false)).await;
}

#[tokio::test]
async fn with_rules_by_path_a_doubtful_one_is_refused() {
    let upstream = Upstream::ok();
    table::run(&gates(&upstream).1, &upstream, rows(true)).await;
}

#[tokio::test]
async fn the_same_over_http2() {
    let upstream = Upstream::ok();
    let (plain, ruled) = gates(&upstream);
    for (path, verdict) in PATHS {
        upstream.forget();
        assert_eq!(plain.h2().await.get(1, path).await.status(), 200, "{path}");
        assert_eq!(upstream.only().target, *path, "byte for byte");
        let want = [200, 403, 400][*verdict as usize];
        assert_eq!(ruled.h2().await.get(1, path).await.status(), want, "{path}");
        assert_eq!(
            upstream.requests().len(),
            1 + usize::from(*verdict == Open),
            "{path}"
        );
    }
}

/// What `Destination` of a MOVE names is a path of the request as much as its target.
#[tokio::test]
async fn a_destination_stays_on_the_route_of_its_request() {
    let upstream = Upstream::ok();
    let (plain, ruled) = gates(&upstream);
    for (destination, status) in [
        ("https://app.lan/b", 200),
        ("https://app.lan:8443/b", 200),
        ("/b", 200),
        ("https://elsewhere.lan/b", 400),
        ("https://app.lan/Admin/x", 400),
        ("https://app.lan/admin/x", 403),
        ("/admin", 403),
        ("/%61dmin", 403),
        ("https://elsewhere.lan/admin", 400),
        ("/x/../admin", 400),
        ("/x%2fadmin", 400),
        ("/admin.", 400),
        ("admin", 400),
        ("/a#b", 400),
        ("", 400),
    ] {
        let fields = [("destination", destination)];
        for (gate, want) in [(&plain, 200), (&ruled, status)] {
            upstream.forget();
            let mut two = gate.h2().await;
            let answer = two.ask(1, "MOVE", "/a", &fields, b"").await;
            assert_eq!(answer.status(), want, "{destination:?} over HTTP/2");
            let head =
                format!("COPY /a HTTP/1.1\r\nHost: app.lan\r\nDestination: {destination}\r\n\r\n");
            assert_eq!(
                gate.h1().await.ask(head).await.status,
                want,
                "{destination:?}"
            );
            let count = if want == 200 { 2 } else { 0 };
            assert_eq!(upstream.requests().len(), count, "{destination:?}");
        }
    }
    let twice =
        "MOVE /a HTTP/1.1\r\nHost: app.lan\r\nDestination: /b\r\ndestination: /admin\r\n\r\n";
    assert_eq!(ruled.h1().await.ask(twice).await.status, 400);
}

/// A `Destination` that names another host of ours is judged by that host's rules too, also where the request's own has none.
#[tokio::test]
async fn a_destination_is_judged_by_the_host_that_it_names() {
    let upstream = Upstream::ok();
    let tables = [
        route("open.lan", "/", &upstream, "\"anyone\""),
        route("app.lan\", \"both.lan", "/", &upstream, "\"anyone\""),
        route("app.lan", "/admin", &upstream, "\"nobody\""),
    ];
    let gate = Gate::open(&tables.concat());
    for (host, destination, want) in [
        ("open.lan", "https://open.lan/admin/x", 200),
        ("open.lan", "/admin/x", 200),
        ("open.lan", "https://elsewhere.lan/admin", 200),
        ("open.lan", "https://app.lan/admin/x", 403),
        ("open.lan", "https://APP.lan:8443/admin/x", 403),
        ("open.lan", "https://app.lan/Admin", 400),
        ("open.lan", "https://app.lan/x", 403),
        ("open.lan", "https://u@app.lan/admin/x", 400),
        ("open.lan", "//app.lan/admin/x", 400),
        ("open.lan", "https://app.lan\\admin/x", 400),
        ("app.lan", "https://both.lan/x", 200),
        ("app.lan", "https://both.lan/admin", 403),
        ("both.lan", "https://app.lan/x", 200),
        ("both.lan", "https://app.lan/admin", 403),
        ("both.lan", "/admin", 200),
        ("app.lan", "https://open.lan/x", 403),
        ("app.lan", "https://elsewhere.lan/x", 400),
    ] {
        upstream.forget();
        let head =
            format!("MOVE /a HTTP/1.1\r\nHost: {host}\r\nDestination: {destination}\r\n\r\n");
        let mut client = Client::tls(gate.address, Some(host), "http/1.1").await;
        assert_eq!(client.ask(head).await.status, want, "{host} {destination}");
        assert_eq!(upstream.requests().len(), usize::from(want == 200));
    }
}

/// What would have to be folded is refused where it is long, at once; plain ASCII of the same length is not.
#[tokio::test]
async fn a_long_path_is_folded_by_nobody() {
    let upstream = Upstream::ok();
    let (plain, ruled) = gates(&upstream);
    for (path, want) in [
        (format!("/{}", "%EF%B7%BA".repeat(3_000)), 400),
        (format!("/{}", "%EF%B7%BA".repeat(400)), 400),
        (
            format!("/%EF%BC%85252525252525{}", "%EF%B7%BA".repeat(200)),
            400,
        ),
        (format!("/{}", "%E6%97%A5".repeat(3_000)), 400),
        (format!("/{}", "%25".repeat(8_000)), 400),
        (format!("/{}", "%E6%97%A5".repeat(680)), 200),
        (format!("/{}", "%E6%97%A5/".repeat(500)), 200),
        (format!("/{}", "A%20b/".repeat(4_000)), 200),
    ] {
        let line = |path: &str| format!("GET {path} HTTP/1.1\r\nHost: app.lan\r\n\r\n");
        for (gate, want) in [(&plain, 200), (&ruled, want)] {
            let status = gate.h1().await.ask(line(&path)).await.status;
            assert_eq!(status, want, "{} {}", path.len(), &path[..40]);
        }
    }
}

/// Where a file has both of two prefixes that a loose application takes for one, its author knows that this one does not.
#[tokio::test]
async fn prefixes_that_differ_in_case_alone_are_two() {
    let (root, upper, lower) = (Upstream::ok(), Upstream::ok(), Upstream::ok());
    let tables = [
        route("app.lan", "/", &root, "\"anyone\""),
        route("app.lan", "/Files", &upper, "\"anyone\""),
        route("app.lan", "/files", &lower, "\"anyone\""),
    ];
    let gate = Gate::open(&tables.concat());
    for (path, status, to) in [
        ("/Files/x", 200, Some(&upper)),
        ("/files/X", 200, Some(&lower)),
        ("/FILES/x", 400, None),
        ("/x/Files", 200, Some(&root)),
    ] {
        [&root, &upper, &lower]
            .into_iter()
            .for_each(Upstream::forget);
        assert_eq!(gate.h1().await.get(path, "").await.status, status, "{path}");
        let seen = [&root, &upper, &lower].map(|u| u.requests().len());
        let want =
            [&root, &upper, &lower].map(|u| usize::from(to.is_some_and(|to| std::ptr::eq(to, u))));
        assert_eq!(seen, want, "{path}");
    }
}

#[tokio::test]
async fn the_longest_prefix_of_whole_segments_wins() {
    let (root, api, deep) = (Upstream::ok(), Upstream::ok(), Upstream::ok());
    let any = "\"anyone\"";
    let tables = [
        route("app.lan", "/", &root, any),
        route("app.lan", "/api", &api, any),
        route("app.lan", "/api/v2", &deep, any),
    ];
    let gate = Gate::open(&tables.concat());
    for (path, to) in [
        ("/", &root),
        ("/apis", &root),
        ("/api", &api),
        ("/api/v22", &api),
        ("/%61pi/v1", &api),
        ("/api/v2", &deep),
        ("/api/v2/x?y", &deep),
    ] {
        [&root, &api, &deep].into_iter().for_each(Upstream::forget);
        assert_eq!(gate.h1().await.get(path, "").await.status, 200);
        assert_eq!(
            to.requests().iter().map(Request::shown).collect::<Vec<_>>(),
            [format!("GET {path}")]
        );
    }
}
