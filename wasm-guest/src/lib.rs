//! `tideover-core` as WebAssembly components, one world a build: feature `cache` or feature `policy`.
//!
//! The module targets `wasm32-unknown-unknown` without the standard library, so that a component imports nothing
//! but what its world says. Everything here is translation between the words of the WIT package and those of the core;
//! what is decided, is decided in the core.

#![cfg_attr(target_arch = "wasm32", no_std)]

#[cfg(any(feature = "cache", feature = "policy"))]
extern crate alloc;

#[cfg(all(feature = "cache", feature = "policy"))]
compile_error!("a module exports one world: choose the feature `cache` or the feature `policy`");

#[cfg(all(feature = "cache", not(feature = "policy")))]
mod bindings {
    wit_bindgen::generate!({ path: "../wit", world: "cache", generate_all });
}
#[cfg(all(feature = "policy", not(feature = "cache")))]
mod bindings {
    wit_bindgen::generate!({ path: "../wit", world: "policy", generate_all });
}

#[cfg(all(feature = "cache", not(feature = "policy")))]
mod cache;
#[cfg(any(feature = "cache", feature = "policy"))]
mod convert;
#[cfg(all(feature = "policy", not(feature = "cache")))]
mod policy;

#[cfg(target_arch = "wasm32")]
mod platform {
    #[global_allocator]
    static ALLOCATOR: dlmalloc::GlobalDlmalloc = dlmalloc::GlobalDlmalloc;

    #[panic_handler]
    fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
        core::arch::wasm32::unreachable()
    }
}
