//! Nothing is to be done but for the feature `component`, whose components are built.

#[cfg(feature = "component")]
mod components;

fn main() {
    println!("cargo::rerun-if-changed=build");
    #[cfg(feature = "component")]
    components::build();
}
