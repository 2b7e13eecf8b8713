//! The configuration: whatever the text, it loads or says where it is wrong.

use loopgate::config;

pub fn config(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    let report = match config::from_text("loopgate.toml", text) {
        Ok(loaded) => config::Report::new(Vec::new(), loaded.origins),
        Err(report) => report,
    };
    let lines = 1 + text.matches('\n').count();
    for entry in report.to_json().as_array().expect("a list") {
        if let Some(line) = entry["line"].as_u64() {
            assert!((1..=lines as u64).contains(&line), "{entry}");
            let length = text
                .split('\n')
                .nth(line as usize - 1)
                .unwrap_or_default()
                .chars()
                .count();
            let column = entry["column"].as_u64().unwrap_or(0);
            assert!((1..=length as u64 + 1).contains(&column), "{entry}");
        }
        assert!(
            !entry["message"].as_str().unwrap_or_default().is_empty(),
            "{entry}"
        );
    }
    let shown = report.render(false, 80);
    assert!(
        !shown.contains('\u{1b}') || text.contains('\u{1b}'),
        "colours that nobody asked for"
    );
    assert_eq!(shown.is_empty(), report.problems.is_empty());
}
