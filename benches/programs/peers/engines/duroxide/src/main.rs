//! duroxide with its SQLite store: 1,000 activities one after another, then 1,000 at once.
//!
//! Prints the seconds by its own clock. The argument is the folder of its store.

use std::sync::Arc;
use std::time::{Duration, Instant};

use duroxide::providers::sqlite::SqliteProvider;
use duroxide::runtime::{Runtime, RuntimeOptions};
use duroxide::runtime::registry::ActivityRegistry;
use duroxide::{ActivityContext, Client, OrchestrationContext, OrchestrationRegistry, OrchestrationStatus};

const PATIENCE: Duration = Duration::from_secs(600);

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let folder = std::env::args().nth(1).ok_or("a folder")?;
    let path = std::path::Path::new(&folder).join("duroxide.sqlite");
    std::fs::File::create(&path)?;
    let store = Arc::new(SqliteProvider::new(&format!("sqlite:{}", path.display()), None).await?);
    let activities = ActivityRegistry::builder()
        .register("Exists", |_: ActivityContext, name: String| async move {
            Ok(std::path::Path::new(&name).exists().to_string())
        })
        .build();
    let orchestrations = OrchestrationRegistry::builder()
        .register("Sequential", |context: OrchestrationContext, _: String| async move {
            for i in 0..1000 {
                context.schedule_activity("Exists", format!("no file {i}")).await?;
            }
            Ok(String::new())
        })
        .register("Parallel", |context: OrchestrationContext, _: String| async move {
            let all = (0..1000).map(|i| context.schedule_activity("Exists", format!("no file {i}"))).collect();
            context.join(all).await;
            Ok(String::new())
        })
        .build();
    // With more than one dispatcher of a kind, those of one process lock the database against each
    // other.
    let options = RuntimeOptions {
        dispatcher_min_poll_interval: Duration::from_millis(1),
        orchestration_concurrency: 1,
        worker_concurrency: 1,
        ..RuntimeOptions::default()
    };
    let runtime = Runtime::start_with_options(store.clone(), activities, orchestrations, options).await;
    let client = Client::new(store);
    for (name, what) in [("sequential", "Sequential"), ("parallel", "Parallel")] {
        let began = Instant::now();
        client.start_orchestration(name, what, "").await?;
        match client.wait_for_orchestration(name, PATIENCE).await? {
            OrchestrationStatus::Completed { .. } => println!("{name} {}", began.elapsed().as_secs_f64()),
            other => return Err(format!("{other:?}").into()),
        }
    }
    runtime.shutdown(None).await;
    Ok(())
}
