//! What the compiler says of mistakes with `#[cached]` and `#[invalidates]`, and where it points.
//!
//! Each file of `refused/` is given to `rustc` with the library that this test is built with, and what it says is compared
//! with the file of that name that ends with `.stderr`. `UPDATE_UI=1` writes those anew.

mod told;

use std::ffi::OsString;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::SystemTime;
use std::{env, fs};

#[test]
fn mistakes_are_pointed_at_and_explained() {
    let (compiler, update) = (Compiler::find(), env::var_os("UPDATE_UI").is_some());
    let mut wrong = String::new();
    for file in sources("refused") {
        let name = file.file_name().expect("a name").to_string_lossy();
        let Err(told) = compiler.compile(&file) else {
            let _ = writeln!(wrong, "{name}: it is accepted\n");
            continue;
        };
        let expected = file.with_extension("stderr");
        if update {
            fs::write(&expected, &told).expect("it is written");
        }
        let expected = fs::read_to_string(&expected).unwrap_or_default();
        if told != expected {
            let _ = writeln!(wrong, "{name}: expected was\n\n{expected}\nand said is\n\n{told}");
        }
    }
    assert!(wrong.is_empty(), "{wrong}UPDATE_UI=1 cargo test -p tideover-tests --test ui writes what is said");
}

/// Else whatever keeps `rustc` from compiling would look like a mistake that it found.
#[test]
fn what_is_right_is_accepted() {
    let compiler = Compiler::find();
    for file in sources("accepted") {
        compiler.compile(&file).unwrap_or_else(|told| panic!("{}:\n\n{told}", file.display()));
    }
}

/// The Rust files of a folder beside this one.
fn sources(folder: &str) -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/ui").join(folder);
    let files = fs::read_dir(folder).expect("the folder").map(|file| file.expect("a file").path());
    let mut files: Vec<_> = files.filter(|file| file.extension().is_some_and(|ending| ending == "rs")).collect();
    assert!(!files.is_empty(), "there are examples");
    files.sort();
    files
}

/// `rustc`, and what it compiles with.
struct Compiler {
    program: OsString,
    /// Where this test lies among all that was built for it.
    built: PathBuf,
    library: PathBuf,
    out: PathBuf,
}

impl Compiler {
    fn find() -> Self {
        let test = env::current_exe().expect("this test");
        let built = test.parent().expect("its folder").to_owned();
        let library = library(&built);
        let out = Path::new(env!("CARGO_TARGET_TMPDIR")).join("ui");
        fs::create_dir_all(&out).expect("the folder");
        Self { program: env::var_os("RUSTC").unwrap_or_else(|| "rustc".into()), built, library, out }
    }

    /// Compiles a file as a library of its own; else what is said of it.
    fn compile(&self, file: &Path) -> Result<(), String> {
        let (folder, name) = (file.parent().expect("a folder"), file.file_name().expect("a name"));
        let mut library = OsString::from("tideover=");
        library.push(&self.library);
        let mut dependencies = OsString::from("dependency=");
        dependencies.push(&self.built);
        // In its own folder its name is its path, and the files of other crates are not found, and not quoted.
        let mut rustc = Command::new(&self.program);
        rustc.current_dir(folder).arg(name).args(["--edition", "2024", "--crate-type", "lib", "--emit", "metadata"]);
        rustc.arg("-o").arg(self.out.join(name).with_extension("rmeta")).arg("-L").arg(dependencies);
        rustc.arg("--extern").arg(library).args(["--error-format", "human", "--color", "never"]);
        let done = rustc.output().expect("rustc runs");
        if done.status.success() {
            return Ok(());
        }
        let told = String::from_utf8_lossy(&done.stderr);
        let is_about_the_file = told.starts_with("error") && !told.contains("E0463") && !told.contains("E0460");
        assert!(is_about_the_file, "rustc cannot use {}, or what that needs:\n\n{told}", self.library.display());
        Err(told::normalised(&told, &name.to_string_lossy()))
    }
}

/// The library. Others may have been built before, with other features.
fn library(built: &Path) -> PathBuf {
    let is_library = |path: &PathBuf| {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        name.starts_with("libtideover-") && name.ends_with(".rlib")
    };
    let born = |path: &PathBuf| fs::metadata(path).and_then(|known| known.modified()).unwrap_or(SystemTime::UNIX_EPOCH);
    let files = fs::read_dir(built).expect("the folder").map(|file| file.expect("a file").path());
    let newest = files.filter(is_library).max_by_key(born);
    newest.unwrap_or_else(|| panic!("there is no libtideover-*.rlib in {}", built.display()))
}
