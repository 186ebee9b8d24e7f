//! Connections: who is let in, who is put out, and the end of all of them.

use std::future::Future;
use std::io;
use std::time::Duration;

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{sleep, timeout};
use tokio_io_timeout::TimeoutStream;

/// How long a connection may be silent between requests, or take to send the head of one.
const SILENCE: Duration = Duration::from_secs(60);
/// How long a client may read nothing of an answer that is there.
const STALLED: Duration = Duration::from_secs(30);
/// Between two tries to let someone in where the system has no room for another connection.
const NO_ROOM: Duration = Duration::from_millis(100);
/// How long cut answers may take to reach their readers.
const FAREWELL: Duration = Duration::from_secs(5);

/// Serves until `end`; then lets nobody in, and waits for `grace` until running answers are whole, calls `cut`, and waits a
/// little more.
pub async fn serve(
    listener: TcpListener,
    router: Router,
    end: impl Future<Output = ()>,
    grace: Duration,
    cut: impl FnOnce(),
) {
    let connections = GracefulShutdown::new();
    tokio::pin!(end);
    loop {
        let accepted = tokio::select! {
            () = &mut end => break,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, _)) => connect(stream, router.clone(), &connections),
            // A client that left before it was let in is no reason to wait.
            Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => {}
            Err(_) => sleep(NO_ROOM).await,
        }
    }
    drop((listener, router));
    let whole = connections.shutdown();
    tokio::pin!(whole);
    if timeout(grace, &mut whole).await.is_err() {
        cut();
        timeout(FAREWELL, whole).await.ok();
    }
}

/// Serves one connection, beside all others.
fn connect(stream: TcpStream, router: Router, connections: &GracefulShutdown) {
    // A token is a small packet that somebody waits for.
    stream.set_nodelay(true).ok();
    let mut stream = TimeoutStream::new(stream);
    stream.set_write_timeout(Some(STALLED));
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(SILENCE)
        .serve_connection(
            TokioIo::new(Box::pin(stream)),
            TowerToHyperService::new(router),
        );
    let connection = connections.watch(connection);
    tokio::spawn(async move {
        // A client that is gone, or sends what is no HTTP, concerns nobody else.
        connection.await.ok();
    });
}

/// As many connections as the system lets this process have: the usual limit is lower, for the sake of programs from the
/// time before it could be raised.
#[cfg(unix)]
pub fn raise_limit() {
    use rustix::process::{Resource, getrlimit, setrlimit};
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    setrlimit(Resource::Nofile, limit).ok();
}

#[cfg(not(unix))]
pub fn raise_limit() {}

/// Waits for Ctrl-C or SIGTERM.
pub async fn asked_to_end() -> io::Result<()> {
    #[cfg(unix)]
    {
        use tokio::signal::unix::{SignalKind, signal};
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        Ok(())
    }
    #[cfg(not(unix))]
    tokio::signal::ctrl_c().await
}
