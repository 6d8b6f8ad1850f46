//! Uses whatever WASI offers: sleep, randomness, standard streams, files, an exit.

use keepgate_sdk::{Description, Failure, Plugin, Reply, Request};
use serde::de::IgnoredAny;
use wasip2::clocks::monotonic_clock;
use wasip2::{cli, filesystem, random, sockets};

/// The plugin.
#[derive(Debug)]
pub struct Sleeper;

keepgate_sdk::export!(Sleeper);

impl Plugin for Sleeper {
    type Settings = IgnoredAny;

    fn describe() -> Description {
        Description::new("sleeper", "1.0.0")
    }

    fn handle(request: Request, _: IgnoredAny) -> Result<Reply, Failure> {
        match request.segments.first().map_or("", String::as_str) {
            "hello" => Ok(Reply::ok().text("awake")),
            "nap" => {
                monotonic_clock::subscribe_duration(1_000_000).block();
                Ok(Reply::ok().text("rested"))
            }
            "sleep" => {
                monotonic_clock::subscribe_duration(3_600_000_000_000).block();
                Ok(Reply::ok())
            }
            "alarms" => loop {
                std::mem::forget(monotonic_clock::subscribe_duration(3_600_000_000_000));
            },
            "random" => Ok(Reply::ok().bytes(random::random::get_random_bytes(1 << 40))),
            "stdout" => {
                let out = cli::stdout::get_stdout();
                loop {
                    if out.blocking_write_and_flush(&[b'x'; 4096]).is_err() {
                        return Err(Failure::Unavailable("stdout is closed".to_owned()));
                    }
                }
            }
            "exit" => {
                cli::exit::exit(Ok(()));
                Ok(Reply::ok())
            }
            // Reports what it can see of the machine.
            "look" => {
                let variables = cli::environment::get_environment().len();
                let arguments = cli::environment::get_arguments().len();
                let folders = filesystem::preopens::get_directories().len();
                let network = sockets::instance_network::instance_network();
                let family = sockets::network::IpAddressFamily::Ipv4;
                let bound = sockets::tcp_create_socket::create_tcp_socket(family).map(|socket| {
                    let any =
                        sockets::network::Ipv4SocketAddress { port: 0, address: (127, 0, 0, 1) };
                    let any = sockets::network::IpSocketAddress::Ipv4(any);
                    socket.start_bind(&network, any).and_then(|()| {
                        socket.subscribe().block();
                        socket.finish_bind()
                    })
                });
                let network = matches!(bound, Ok(Ok(())));
                Ok(Reply::ok().text(format!("{variables} {arguments} {folders} {network}")))
            }
            _ => Err(Failure::NotFound),
        }
    }
}
