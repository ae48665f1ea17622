//! Wrong configurations and environments: each gives errors that name a place and a remedy.
//!
//! `config/wrong/TOPIC.cases` holds cases as `### NAME`, the text, `>>>`, what is said of it. The
//! text is laid over `base.yml`, which is right; with `# alone` in it it stands alone.

use std::collections::BTreeSet;
use std::path::PathBuf;

use howdah_agent::config::{Config, ConfigError, Sources};

use super::{add_file, files, fixtures, told};

struct Case {
    name: String,
    text: String,
    expected: String,
}

fn cases(text: &str) -> Vec<Case> {
    let blocks = text.split("### ").filter(|block| !block.trim().is_empty());
    blocks
        .map(|block| {
            let (name, rest) = block.split_once('\n').unwrap();
            let (text, expected) = rest.split_once("\n>>>\n").unwrap();
            let expected = expected.trim_end().to_owned();
            Case { name: name.to_owned(), text: text.to_owned(), expected }
        })
        .collect()
}

fn written(cases: &[Case]) -> String {
    let blocks = cases
        .iter()
        .map(|case| format!("### {}\n{}\n>>>\n{}\n", case.name, case.text, case.expected));
    blocks.collect::<Vec<_>>().join("\n")
}

fn verdict(text: &str) -> Result<(Config, Vec<howdah_agent::config::Warning>), ConfigError> {
    let mut sources = Sources { named: "conf.d".into(), ..Sources::default() };
    if !text.contains("# alone") {
        let base = std::fs::read_to_string(fixtures().join("wrong/base.yml")).unwrap();
        add_file(&mut sources, "base.yml", &base);
    }
    add_file(&mut sources, "wrong.yml", text);
    Config::from_sources(&sources)
}

fn topics() -> Vec<PathBuf> {
    files(&fixtures().join("wrong"), "cases")
}

#[test]
fn the_base_of_the_cases_is_right() {
    let (_, warnings) = verdict("").unwrap();
    assert!(warnings.is_empty(), "{warnings:?}");
}

#[test]
fn each_wrong_case_is_told_where_and_what_to_do() {
    let (mut count, mut names, mut wrong) = (0, BTreeSet::new(), Vec::new());
    for path in topics() {
        let mut cases = cases(&std::fs::read_to_string(&path).unwrap());
        let topic = path.file_stem().unwrap().to_str().unwrap().to_owned();
        for case in &mut cases {
            count += 1;
            let name = format!("{topic}: {}", case.name);
            assert!(names.insert(name.clone()), "two cases are called {name}");
            let verdict = verdict(&case.text);
            let said = told(&verdict).trim_end().to_owned();
            match &verdict {
                Ok(_) => wrong.push(format!("{name}: passes")),
                Err(error) => {
                    if let Err(why) = super::properties::names_place_and_remedy(error, 1000) {
                        wrong.push(format!("{name}: {why}"));
                    }
                }
            }
            if said.contains("hunter") {
                wrong.push(format!("{name}: a secret is shown: {said}"));
            }
            if said != case.expected {
                wrong.push(format!("{name}: expected\n{}\nbut got\n{said}\n", case.expected));
            }
            case.expected = said;
        }
        if std::env::var_os("UPDATE_GOLDENFILES").is_some() {
            std::fs::write(&path, written(&cases)).unwrap();
        }
    }
    assert!(count >= 300, "only {count} cases");
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
