//! Two processes on one Redis: what one changes leaves the memory of the other as it happens.
//!
//! ```sh
//! redis-server --port 6379 --save '' &
//! cargo run -p tideover-examples --example processes -- redis://127.0.0.1:6379
//! ```

use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use tideover::store::{RedisConfig, RedisStore};
use tideover::{Cache, Source};

type Failure = Box<dyn std::error::Error>;

#[tokio::main]
async fn main() -> Result<(), Failure> {
    let mut arguments = std::env::args().skip(1);
    let url = arguments.next().unwrap_or_else(|| "redis://127.0.0.1:6379".to_owned());
    match arguments.next().as_deref() {
        None => write(&url).await,
        Some(_reader) => read(&url).await,
    }
}

async fn cache(url: &str) -> Result<Cache, Failure> {
    let config = RedisConfig { namespace: "example:".into(), ..RedisConfig::new(url) };
    let store = RedisStore::connect(config).await?; // ready, or says why not
    Ok(Cache::builder().store(store).ttl(Duration::from_secs(3600)).build()?)
}

/// The first process changes a value, and looks at what the other one says of it.
async fn write(url: &str) -> Result<(), Failure> {
    let greetings = cache(url).await?.typed::<String>();
    greetings.put("greeting", &"hello".to_owned()).await?;

    let mut reader = Command::new(std::env::current_exe()?).args([url, "reader"]).stdout(Stdio::piped()).spawn()?;
    let mut lines = BufReader::new(reader.stdout.take().ok_or("no output")?).lines();
    let mut heard = || lines.next().unwrap_or_else(|| Ok("nothing more".to_owned()));
    println!("the other process: {}", heard()?);

    greetings.put("greeting", &"good evening".to_owned()).await?;
    println!("this process: changed it, although it would have been fresh for an hour");
    println!("the other process: {}", heard()?);
    end(&mut reader);
    greetings.cache().clear().await?;
    greetings.cache().shutdown().await;
    Ok(())
}

fn end(reader: &mut Child) {
    // It may have ended by itself.
    let _gone = reader.kill();
    let _status = reader.wait();
}

/// The other process asks again and again, and says so when the answer is another one.
async fn read(url: &str) -> Result<(), Failure> {
    let greetings = cache(url).await?.typed::<String>();
    let (mut last, mut hits) = (String::new(), 0_u32);
    loop {
        if let Some(greeting) = greetings.get("greeting").await? {
            hits += u32::from(greeting.source == Source::Memory);
            if *greeting.value != last {
                println!("{:?} (after {hits} hits in its own memory)", *greeting.value);
                last.clone_from(&greeting.value);
            }
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}
