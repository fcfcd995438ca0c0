//! The program `tideover`.

mod program;

fn main() -> std::process::ExitCode {
    program::main()
}
