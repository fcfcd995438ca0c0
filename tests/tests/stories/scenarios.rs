//! The stories in `scenarios/`: each is played on every engine, and every engine gives the same transcript (law 12).

use std::path::{Path, PathBuf};
use std::{env, fs};

use tideover::Policy;
#[cfg(feature = "component")]
use tideover::engine::PolicyEngine;
use tideover::engine::{Engine, NativeEngine};
use tideover_tests::fixed::FixedEngine;
use tideover_tests::scenario::{MakeEngine, WRONG, difference, play};

const SEED: u64 = 7;

const ENGINES: &[(&str, MakeEngine)] = &[
    ("native", native),
    #[cfg(feature = "component")]
    ("policy", policy),
    ("fixed", fixed),
];

/// Stories that need more room than the fixed engine has, and why.
const TOO_BIG_FOR_FIXED: &[(&str, &str)] = &[];

fn native(policy: Policy) -> Box<dyn Engine> {
    Box::new(NativeEngine::new(policy, SEED).expect("the story's policy"))
}

#[cfg(feature = "component")]
fn policy(policy: Policy) -> Box<dyn Engine> {
    Box::new(PolicyEngine::new(policy, SEED).expect("the story's policy"))
}

fn fixed(policy: Policy) -> Box<dyn Engine> {
    Box::new(FixedEngine::new(policy, SEED).expect("the story's policy"))
}

/// Whether the story has no room on that engine.
fn is_too_big(path: &Path, engine: &str) -> bool {
    let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    engine == "fixed" && TOO_BIG_FOR_FIXED.iter().any(|(story, _)| *story == name)
}

#[test]
fn every_engine_tells_every_story_alike() {
    let update = env::var_os("UPDATE_SCENARIOS").is_some();
    let mut wrong = Vec::new();
    for path in stories() {
        let mut story = fs::read_to_string(&path).expect("a story");
        for &(engine, make) in ENGINES.iter().filter(|(engine, _)| !is_too_big(&path, engine)) {
            let played = play(&story, make);
            if update && engine == "native" && played != story {
                fs::write(&path, &played).expect("the story can be written");
                story.clone_from(&played);
            }
            if played != story || played.contains(WRONG) {
                wrong.push(format!("{} on {engine}:\n{}", path.display(), difference(&story, &played)));
            }
        }
    }
    assert!(wrong.is_empty(), "UPDATE_SCENARIOS=1 writes what came into the stories\n\n{}", wrong.join("\n\n"));
}

#[test]
fn the_stories_are_there() {
    assert!(stories().len() >= 25, "{} stories", stories().len());
}

fn stories() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("scenarios");
    let mut folders = vec![folder.clone()];
    folders.push(folder.join("invalidation"));
    let files = folders.iter().flat_map(|folder| fs::read_dir(folder).expect("a folder of stories"));
    let mut stories: Vec<PathBuf> = files.map(|file| file.expect("a file").path()).collect();
    stories.retain(|path| path.extension().is_some_and(|extension| extension == "txt"));
    stories.sort();
    stories
}
