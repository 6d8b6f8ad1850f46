//! The loop that accepts connections, and the shutdown of a listener.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, timeout};
use tokio_util::task::TaskTracker;

use crate::listen::Listener;
use crate::server::{Application, ListenerConfig, drive};
use crate::shutdown::{Phase, Shutdown, reached};

/// Pause after the first error of `accept`; it doubles with each further one.
const BACKOFF: Duration = Duration::from_millis(10);
const BACKOFF_MAX: Duration = Duration::from_secs(1);

/// How long cut connections have to end. Only a request that computes without yielding needs it.
const CUT_TIMEOUT: Duration = Duration::from_secs(5);

pub(super) async fn serve<A: Application>(
    listener: Listener,
    config: ListenerConfig,
    application: Arc<A>,
    shutdown: &Shutdown,
) {
    let tasks = TaskTracker::new();
    // Separate for each listener, because grace periods may differ.
    let phase = Shutdown::new();
    let config = Arc::new(config);
    let slots = Arc::new(Semaphore::new(config.max_connections.max(1)));
    let drivers = drive::Drivers {
        config: config.clone(),
        application,
        tasks: tasks.clone(),
        phase: phase.clone(),
    };
    tokio::select! {
        () = accept(&listener, &slots, drivers) => {}
        () = shutdown.begun() => {}
    }
    // No new connections; this also removes a Unix socket's file.
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
    let open = config.max_connections.saturating_sub(slots.available_permits());
    tracing::warn!(address = %config.address, connections = open, "cutting connections");
    phase.cut();
    if timeout(CUT_TIMEOUT, tasks.wait()).await.is_err() {
        tracing::warn!(address = %config.address, tasks = tasks.len(), "tasks still running after their connections were cut");
    }
}

/// Never returns.
async fn accept<A: Application>(
    listener: &Listener,
    slots: &Arc<Semaphore>,
    drivers: drive::Drivers<A>,
) {
    let drivers = Arc::new(drivers);
    let mut backoff = BACKOFF;
    loop {
        let slot = acquire_slot(slots, &drivers.config).await;
        match listener.accept().await {
            Ok((socket, peer)) => {
                backoff = BACKOFF;
                let drivers_of_connection = drivers.clone();
                drivers.tasks.spawn(drivers_of_connection.drive(socket, peer, slot));
            }
            Err(error) if is_client_error(&error) => {}
            Err(error) => {
                // Too many open files, or no memory: connections that end make room.
                if backoff == BACKOFF {
                    tracing::error!(address = %drivers.config.address, %error, "cannot accept connections");
                }
                tokio::time::sleep(backoff).await;
                backoff = (backoff * 2).min(BACKOFF_MAX);
            }
        }
    }
}

/// Waits until another connection may be open.
async fn acquire_slot(
    slots: &Arc<Semaphore>,
    config: &ListenerConfig,
) -> Option<OwnedSemaphorePermit> {
    if let Ok(slot) = slots.clone().try_acquire_owned() {
        return Some(slot);
    }
    let begun = Instant::now();
    tracing::warn!(
        address = %config.address,
        connections = config.max_connections,
        "connection limit reached; further connections wait"
    );
    // The semaphore is never closed.
    let slot = slots.clone().acquire_owned().await.ok();
    let seconds = begun.elapsed().as_secs_f64();
    tracing::info!(address = %config.address, seconds, "accepting connections again");
    slot
}

/// True for errors of a connection that was gone before it was accepted.
fn is_client_error(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::ConnectionRefused
    )
}
