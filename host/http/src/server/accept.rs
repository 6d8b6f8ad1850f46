//! The loop that accepts connections, and its end.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, timeout};
use tokio_util::task::TaskTracker;

use crate::listen::Listener;
use crate::server::{Application, ListenerConfig, drive};
use crate::shutdown::{Phase, Shutdown, reached};

/// After the first error of `accept`; doubled with each further one.
const BACKOFF: Duration = Duration::from_millis(10);
const BACKOFF_MAX: Duration = Duration::from_secs(1);

/// Connections that are cut get so long to notice. Only a request that computes without ever
/// yielding needs it.
const CUT: Duration = Duration::from_secs(5);

pub(super) async fn serve<A: Application>(
    listener: Listener,
    config: ListenerConfig,
    application: Arc<A>,
    shutdown: &Shutdown,
) {
    let tasks = TaskTracker::new();
    // This listener's own, because its grace period may end before the others'.
    let phase = Shutdown::new();
    let config = Arc::new(config);
    let room = Arc::new(Semaphore::new(config.max_connections.max(1)));
    let drivers = drive::Drivers {
        config: config.clone(),
        application,
        tasks: tasks.clone(),
        phase: phase.clone(),
    };
    tokio::select! {
        () = accept(&listener, &room, drivers) => {}
        () = shutdown.begun() => {}
    }
    // Nobody connects any more; a Unix socket's file goes as well.
    drop(listener);
    phase.begin();
    tasks.close();
    let mut asked = shutdown.subscribe();
    let grace = async {
        match config.timeouts.grace {
            Some(grace) => tokio::time::sleep(grace).await,
            None => std::future::pending().await,
        }
    };
    tokio::select! {
        () = tasks.wait() => return,
        () = reached(&mut asked, Phase::Cut) => {}
        () = grace => {}
    }
    let open = config.max_connections.saturating_sub(room.available_permits());
    tracing::warn!(address = %config.address, connections = open, "cutting connections");
    phase.cut();
    if timeout(CUT, tasks.wait()).await.is_err() {
        tracing::warn!(address = %config.address, tasks = tasks.len(), "requests did not end");
    }
}

/// Never returns.
async fn accept<A: Application>(
    listener: &Listener,
    room: &Arc<Semaphore>,
    drivers: drive::Drivers<A>,
) {
    let drivers = Arc::new(drivers);
    let mut backoff = BACKOFF;
    loop {
        let place = place(room, &drivers.config).await;
        match listener.accept().await {
            Ok((socket, peer)) => {
                backoff = BACKOFF;
                let drivers_of_connection = drivers.clone();
                drivers.tasks.spawn(async move {
                    drivers_of_connection.drive(socket, peer).await;
                    drop(place);
                });
            }
            Err(error) if is_of_the_client(&error) => {}
            Err(error) => {
                // Too many open files, or no memory: it passes when connections end.
                if backoff == BACKOFF {
                    tracing::error!(address = %drivers.config.address, %error, "accepting");
                }
                tokio::time::sleep(backoff).await;
                backoff = (backoff * 2).min(BACKOFF_MAX);
            }
        }
    }
}

/// Room for one more connection.
async fn place(room: &Arc<Semaphore>, config: &ListenerConfig) -> Option<OwnedSemaphorePermit> {
    if let Ok(place) = room.clone().try_acquire_owned() {
        return Some(place);
    }
    let begun = Instant::now();
    tracing::warn!(
        address = %config.address,
        connections = config.max_connections,
        "as many connections as allowed are open; further ones wait"
    );
    // The semaphore is never closed.
    let place = room.clone().acquire_owned().await.ok();
    tracing::info!(address = %config.address, waited = ?begun.elapsed(), "accepting again");
    place
}

/// Errors of one connection, which was gone before it was accepted.
fn is_of_the_client(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::ConnectionRefused
    )
}
