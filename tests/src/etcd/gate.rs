//! A proxy in front of a server that passes a number of bytes of the responses and then holds the
//! rest back until told otherwise. With it, a test is certainly in the middle of a snapshot, for as
//! long as it likes.

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
    /// Bytes that may still pass; `None` if all may.
    left: Option<u64>,
    /// Whether a connection is waiting to pass more.
    waiting: bool,
    /// Bytes to pass before one that is changed.
    flip: Option<u64>,
    connections: Vec<TcpStream>,
    closed: bool,
}

impl Gate {
    /// An open gate in front of a server on this loopback port.
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
                // If the server is gone, it refuses the connection, and so does the gate.
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

    /// Passes this many more bytes of the server's, on all connections together.
    pub fn close_after(&self, bytes: u64) {
        let mut state = self.shared.state.lock().unwrap();
        (state.left, state.waiting) = (Some(bytes), false);
    }

    /// Waits until those have passed and more have arrived.
    #[track_caller]
    pub fn wait_until_closed(&self) {
        let state = self.shared.state.lock().unwrap();
        let waits = |state: &mut State| !state.waiting;
        let (state, _) = self.shared.changed.wait_timeout_while(state, LONG, waits).unwrap();
        assert!(state.waiting, "nothing arrived at the closed gate: {state:?}");
    }

    /// Passes everything.
    pub fn open(&self) {
        let mut state = self.shared.state.lock().unwrap();
        (state.left, state.waiting) = (None, false);
        self.shared.changed.notify_all();
    }

    /// Closes all connections. Later ones are passed through.
    pub fn cut(&self) {
        let mut state = self.shared.state.lock().unwrap();
        for connection in state.connections.drain(..) {
            // The other side may have disconnected already.
            let _ = connection.shutdown(Shutdown::Both);
        }
        (state.left, state.waiting) = (None, false);
        self.shared.changed.notify_all();
    }

    /// Changes the byte that follows after this many more bytes of the server's.
    pub fn flip_after(&self, bytes: u64) {
        self.shared.state.lock().unwrap().flip = Some(bytes);
    }

    /// Whether that byte has passed.
    pub fn has_flipped(&self) -> bool {
        self.shared.state.lock().unwrap().flip.is_none()
    }
}

impl Drop for Gate {
    fn drop(&mut self) {
        self.shared.state.lock().unwrap().closed = true;
        self.cut();
        // Wakes the thread that accepts connections.
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

    /// Waits until something may pass, and returns how much of `wanted`.
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
