//! A way to a NATS server that can be cut so that what was sent on it is not lost, but comes in late: as it does where a server was
//! stopped, or is slow, and has it in its buffers.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use super::{await_some, await_true};

/// What begins a message that is published into a stream.
const PUBLISH: &[u8] = b"HPUB metrics.";
/// What each answer to one has in it.
const ANSWER: &[u8] = b"\"stream\":";

/// The way; it ends with the process.
pub struct Detour {
    address: SocketAddr,
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    /// From the next message on, what comes is held.
    is_holding: bool,
    roads: Vec<Road>,
}

/// A connection that goes this way.
struct Road {
    client: TcpStream,
    server: TcpStream,
    /// What the client has sent, from a message on, and the server has not got.
    held: Vec<u8>,
    is_held: bool,
    /// All that the server has said.
    said: Vec<u8>,
}

fn count(bytes: &[u8], pattern: &[u8]) -> usize {
    bytes
        .windows(pattern.len())
        .filter(|window| *window == pattern)
        .count()
}

impl Detour {
    /// A way to the server at `to`.
    pub fn start(to: SocketAddr) -> Detour {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port is free");
        let address = listener.local_addr().expect("it is bound");
        let state: Arc<Mutex<State>> = Arc::default();
        let detour = Detour {
            address,
            state: Arc::clone(&state),
        };
        thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                let Ok(server) = TcpStream::connect(to) else {
                    continue;
                };
                let both = || (client.try_clone().unwrap(), server.try_clone().unwrap());
                let ((client, server), (from_client, from_server)) = (both(), both());
                let road = Road {
                    client,
                    server,
                    held: Vec::new(),
                    is_held: false,
                    said: Vec::new(),
                };
                let number = {
                    let mut state = state.lock().unwrap();
                    state.roads.push(road);
                    state.roads.len() - 1
                };
                let (up, down) = (Arc::clone(&state), Arc::clone(&state));
                thread::spawn(move || carry_up(&up, number, from_client));
                thread::spawn(move || carry_down(&down, number, from_server));
            }
        });
        detour
    }

    /// The address to connect to.
    pub fn url(&self) -> String {
        format!("nats://{}", self.address)
    }

    /// Holds what is published from now on, on each connection from its first message on.
    pub fn hold(&self) {
        self.state.lock().unwrap().is_holding = true;
    }

    /// The first connection behind `after` of which a message is held, once there is one.
    pub fn await_held(&self, after: Option<usize>) -> usize {
        await_some("a message is sent", || {
            let state = self.state.lock().unwrap();
            let first = after.map_or(0, |after| after + 1);
            (first..state.roads.len()).find(|road| count(&state.roads[*road].held, PUBLISH) > 0)
        })
    }

    /// How many messages are held of a connection, after a little time for more than `expected`. That more come is what a shipper
    /// should not do: where it does, it does so within some milliseconds.
    pub fn held(&self, road: usize, expected: usize) -> usize {
        let until = Instant::now() + Duration::from_millis(300);
        loop {
            let held = count(&self.state.lock().unwrap().roads[road].held, PUBLISH);
            if held > expected || Instant::now() > until {
                return held;
            }
            thread::sleep(Duration::from_millis(5));
        }
    }

    /// Ends a connection for its client, who cannot know what the server will get of it.
    pub fn cut(&self, road: usize) {
        let state = self.state.lock().unwrap();
        state.roads[road].client.shutdown(Shutdown::Both).ok();
    }

    /// Lets the server have what is held of a connection, and waits until it has answered each message. Nothing of this
    /// connection is held any more.
    pub fn release(&self, road: usize) {
        let expected = {
            let mut state = self.state.lock().unwrap();
            let road = &mut state.roads[road];
            road.is_held = false;
            let held = std::mem::take(&mut road.held);
            road.server.write_all(&held).expect("the server is there");
            count(&road.said, ANSWER) + count(&held, PUBLISH)
        };
        await_true("the server has answered", || {
            count(&self.state.lock().unwrap().roads[road].said, ANSWER) >= expected
        });
    }

    /// Holds nothing any more that comes from now on.
    pub fn pass(&self) {
        self.state.lock().unwrap().is_holding = false;
    }
}

fn carry_up(state: &Mutex<State>, number: usize, mut client: TcpStream) {
    let mut buffer = [0; 64 << 10];
    // The end of what was carried: a message may begin in it.
    let mut tail = Vec::new();
    while let Ok(length @ 1..) = client.read(&mut buffer) {
        let bytes = &buffer[..length];
        tail.extend_from_slice(bytes);
        let mut state = state.lock().unwrap();
        let begins = state.is_holding && count(&tail, PUBLISH) > 0;
        let road = &mut state.roads[number];
        road.is_held |= begins;
        if road.is_held {
            road.held.extend_from_slice(bytes);
        } else if road.server.write_all(bytes).is_err() {
            break;
        }
        tail.drain(..tail.len().saturating_sub(PUBLISH.len() - 1));
    }
    let state = state.lock().unwrap();
    if !state.roads[number].is_held {
        state.roads[number].server.shutdown(Shutdown::Write).ok();
    }
}

fn carry_down(state: &Mutex<State>, number: usize, mut server: TcpStream) {
    let mut buffer = [0; 64 << 10];
    while let Ok(length @ 1..) = server.read(&mut buffer) {
        let mut state = state.lock().unwrap();
        let road = &mut state.roads[number];
        road.said.extend_from_slice(&buffer[..length]);
        // The client may have gone.
        road.client.write_all(&buffer[..length]).ok();
    }
    state.lock().unwrap().roads[number]
        .client
        .shutdown(Shutdown::Both)
        .ok();
}
