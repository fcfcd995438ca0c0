//! A function that returns nothing.

#[tideover::cached]
async fn nothing(id: u64) {
    let _ = id;
}

fn main() {}
