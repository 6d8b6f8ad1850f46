//! A gate before a server: it lets so many bytes of the answers through and then none, until it is
//! told. That way a test is in the middle of a snapshot for certain, and for as long as it likes.

use std::io::{self, Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex};
use std::thread;

use crate::program::LONG;

/// A gate. Its connections end when it is dropped.
#[derive(Debug)]
pub struct Gate {
    address: SocketAddr,
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    /// Bytes that still come through; none: all of them.
    left: Option<u64>,
    /// Somebody waits for more to be let through.
    waiting: bool,
    /// Bytes until one that comes through as another one.
    flip: Option<u64>,
    connections: Vec<TcpStream>,
    closed: bool,
}

impl Gate {
    /// An open gate before a server on this port of loopback.
    pub fn before(port: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let shared = Arc::new(Shared::default());
        let gate = Self { address, shared: shared.clone() };
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                if shared.state.lock().unwrap().closed {
                    return;
                }
                // A server that is gone refuses; so does the gate.
                if let Ok(server) = TcpStream::connect(("127.0.0.1", port)) {
                    let _ = shared.connect(client, server);
                }
            }
        });
        gate
    }

    /// Its URL, without TLS.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Lets so many more bytes of the server's through, on all connections together.
    pub fn close_after(&self, bytes: u64) {
        let mut state = self.shared.state.lock().unwrap();
        (state.left, state.waiting) = (Some(bytes), false);
    }

    /// Waits until those are through and more have come.
    #[track_caller]
    pub fn wait_until_closed(&self) {
        let state = self.shared.state.lock().unwrap();
        let waits = |state: &mut State| !state.waiting;
        let (state, _) = self.shared.changed.wait_timeout_while(state, LONG, waits).unwrap();
        assert!(state.waiting, "nobody came to the closed gate: {state:?}");
    }

    /// Lets everything through.
    pub fn open(&self) {
        let mut state = self.shared.state.lock().unwrap();
        (state.left, state.waiting) = (None, false);
        self.shared.changed.notify_all();
    }

    /// Ends all connections. Those that come later are let through.
    pub fn cut(&self) {
        let mut state = self.shared.state.lock().unwrap();
        for connection in state.connections.drain(..) {
            // The other side may be gone already.
            let _ = connection.shutdown(Shutdown::Both);
        }
        (state.left, state.waiting) = (None, false);
        self.shared.changed.notify_all();
    }

    /// Has the byte of the server's after so many more come through as another one.
    pub fn flip_after(&self, bytes: u64) {
        self.shared.state.lock().unwrap().flip = Some(bytes);
    }

    /// Whether that byte has come through.
    pub fn has_flipped(&self) -> bool {
        self.shared.state.lock().unwrap().flip.is_none()
    }
}

impl Drop for Gate {
    fn drop(&mut self) {
        self.shared.state.lock().unwrap().closed = true;
        self.cut();
        // Wakes the one that accepts.
        let _ = TcpStream::connect(self.address);
    }
}

impl Shared {
    fn connect(self: &Arc<Self>, client: TcpStream, server: TcpStream) -> io::Result<()> {
        client.set_nodelay(true)?;
        server.set_nodelay(true)?;
        let mut state = self.state.lock().unwrap();
        state.connections.extend([client.try_clone()?, server.try_clone()?]);
        drop(state);
        let (mut questions, mut to_server) = (client.try_clone()?, server.try_clone()?);
        thread::spawn(move || {
            let _ = io::copy(&mut questions, &mut to_server);
            let _ = to_server.shutdown(Shutdown::Write);
        });
        let shared = self.clone();
        thread::spawn(move || {
            let _ = shared.answer(&server, &client);
            let _ = client.shutdown(Shutdown::Both);
            let _ = server.shutdown(Shutdown::Both);
        });
        Ok(())
    }

    fn answer(&self, mut server: &TcpStream, mut client: &TcpStream) -> io::Result<()> {
        let mut buffer = vec![0; 16 * 1024];
        loop {
            let read = server.read(&mut buffer)?;
            if read == 0 {
                return Ok(());
            }
            let mut rest = &mut buffer[..read];
            while !rest.is_empty() {
                let (now, later) = rest.split_at_mut(self.pass(rest.len()));
                self.flip(now);
                client.write_all(now)?;
                rest = later;
            }
        }
    }

    /// Waits until something comes through, and takes its part of it.
    fn pass(&self, wanted: usize) -> usize {
        let mut state = self.state.lock().unwrap();
        while state.left == Some(0) {
            state.waiting = true;
            self.changed.notify_all();
            state = self.changed.wait(state).unwrap();
        }
        let Some(left) = &mut state.left else { return wanted };
        let passed = usize::try_from(*left).unwrap_or(usize::MAX).min(wanted);
        *left -= passed as u64;
        passed
    }

    fn flip(&self, bytes: &mut [u8]) {
        let mut state = self.state.lock().unwrap();
        let Some(left) = state.flip else { return };
        let place = usize::try_from(left).unwrap_or(usize::MAX);
        if let Some(byte) = bytes.get_mut(place) {
            *byte ^= 0x40;
        }
        state.flip = left.checked_sub(bytes.len() as u64);
    }
}
