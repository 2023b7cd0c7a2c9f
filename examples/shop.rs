//! A shop in Rust whose orders are durable: `cargo run --example shop -- STORE`.
//!
//! Kill it at any time and run it again: each order is charged once, and resumes where it stopped.

use std::error::Error;
use std::io::{Error as IoError, Write};
use std::time::Duration;

use durable::{Failure, Lifecycle, Runtime, idempotency_key};
use serde::{Deserialize, Serialize};

#[derive(Clone, Serialize, Deserialize)]
struct Order {
    item: String,
    count: u32,
}

#[derive(Deserialize)]
struct Bought {
    receipt: String,
    parcel: u64,
    by: String,
}

/// Charges a card at the bank, which charges once for each key, no matter how often it is asked.
fn charge(order: Order) -> Result<String, Failure> {
    if order.count > 5 {
        return Err(Failure::new("declined", "too much at once").with("most", 5));
    }
    let key = idempotency_key().ok_or("an activity has a key").map_err(IoError::other)?;
    eprintln!("charging {} x {} under {key}", order.count, order.item);
    std::thread::sleep(Duration::from_millis(300));
    Ok(format!("receipt for {} x {}", order.count, order.item))
}

/// Books a parcel at the carrier, without blocking a thread.
async fn ship(order: Order) -> Result<usize, Failure> {
    tokio::time::sleep(Duration::from_millis(300)).await;
    Ok(1000 + order.item.len())
}

fn main() -> Result<(), Box<dyn Error>> {
    let store = std::env::args().nth(1).unwrap_or_else(|| "shop-store".into());
    let runtime = Runtime::builder().activity("charge", charge).async_activity("ship", ship).open(store)?;
    let shop = runtime.compile("shop.df", include_str!("shop.df"))?;

    // The instance's id is the order's, so a second start, even after a crash, returns the same
    // instance.
    let orders = [("order-1", "lamp", 2), ("order-2", "sofa", 1), ("order-3", "spoon", 6)];
    for (id, item, count) in orders {
        let order = Order { item: item.into(), count };
        let instance = runtime.start_as(id, &shop, "buy", (order,))?;
        if instance.status()?.lifecycle == Lifecycle::Running {
            instance.raise("approved", serde_json::json!({"by": "ada"}))?;
        }
    }
    for (id, ..) in orders {
        match runtime.instance(id)?.wait::<Bought>() {
            Ok(bought) => println!("{id}: {}, parcel {}, by {}", bought.receipt, bought.parcel, bought.by),
            Err(durable::Error::Failed(failure)) => println!("{id}: {failure}"),
            Err(error) => return Err(error.into()),
        }
    }
    println!("lamps left: {}", runtime.state::<u32>("Stock", "lamp")?.unwrap_or(10));
    std::io::stdout().flush()?;
    Ok(runtime.close()?)
}
