//! Where pods reach this machine.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    time::Duration,
};

use tokio::{
    net::{TcpListener, TcpStream, UdpSocket, lookup_host},
    time::timeout,
};

use super::RunError;

/// How long a connection to ourselves may take.
const CONNECTING: Duration = Duration::from_secs(5);

/// The address of this machine from which it reaches the API server: what is near the one is mostly near the
/// other. Nothing is sent.
pub(super) async fn towards(server: &http::Uri) -> Result<IpAddr, RunError> {
    let unknown = |reason: String| RunError::NoAddress { reason };
    let host = server.host().unwrap_or_default().trim_matches(['[', ']']);
    let default = if server.scheme_str() == Some("http") { 80 } else { 443 };
    let port = server.port_u16().unwrap_or(default);
    let found = async {
        let peer = lookup_host((host, port)).await?.next();
        let peer = peer.ok_or_else(|| io::Error::from(io::ErrorKind::NotFound))?;
        let socket = UdpSocket::bind((unspecified(peer.is_ipv6()), 0)).await?;
        socket.connect(peer).await?;
        socket.local_addr()
    };
    let found = found.await.map_err(|error| unknown(format!("there is no way to {host}: {error}")))?;
    if found.ip().is_loopback() {
        return Err(unknown(format!(
            "the API server is reached at {host}, which is this machine itself as no pod sees it"
        )));
    }
    Ok(found.ip())
}

/// A free port at this name or address: at that address alone if this machine has it, else at all addresses,
/// as where a virtual machine's gateway stands for this machine.
pub(super) async fn listen(host: &str) -> Result<TcpListener, RunError> {
    let address: IpAddr = host.parse().unwrap_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED));
    let bound = match TcpListener::bind(SocketAddr::new(address, 0)).await {
        Err(error) if error.kind() == io::ErrorKind::AddrNotAvailable => {
            TcpListener::bind((unspecified(address.is_ipv6()), 0)).await
        }
        bound => bound,
    };
    bound.map_err(|source| RunError::Listen { address: host.to_owned(), source })
}

/// Sees whether at least this machine reaches itself at that name or address, as its agents do.
pub(super) async fn try_out(host: &str, listener: &TcpListener) -> Result<(), RunError> {
    let tried = async {
        let port = listener.local_addr()?.port();
        timeout(CONNECTING, TcpStream::connect((host, port))).await?
    };
    let unreachable = |source| RunError::Unreachable { address: host.to_owned(), source };
    let stream = tried.await.map_err(unreachable)?;
    let is_loopback = stream.peer_addr().is_ok_and(|peer| peer.ip().is_loopback());
    match is_loopback {
        true => Err(RunError::NoAddress { reason: format!("{host} is each pod's own") }),
        false => Ok(()),
    }
}

fn unspecified(is_ipv6: bool) -> IpAddr {
    if is_ipv6 { Ipv6Addr::UNSPECIFIED.into() } else { Ipv4Addr::UNSPECIFIED.into() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn an_api_server_on_this_machine_says_nothing_of_how_pods_reach_it() {
        let error = towards(&"https://127.0.0.1:6443".parse().expect("a URL")).await.expect_err("no address");
        assert!(
            error.to_string().contains("reached at 127.0.0.1") && error.to_string().contains("--address")
        );
    }

    #[tokio::test]
    async fn a_name_and_an_address_of_another_machine_are_listened_for_everywhere() {
        for host in ["host.example", "192.0.2.1"] {
            let listener = listen(host).await.expect("a port");
            assert!(listener.local_addr().expect("an address").ip().is_unspecified(), "{host}");
        }
        let listener = listen("127.0.0.1").await.expect("a port");
        assert!(listener.local_addr().expect("an address").ip().is_loopback());
    }

    #[tokio::test]
    async fn an_address_that_leads_nowhere_or_to_the_pod_itself_is_refused() {
        let listener = listen("127.0.0.1").await.expect("a port");
        let error = try_out("127.0.0.1", &listener).await.expect_err("loopback");
        assert!(error.to_string().contains("127.0.0.1 is each pod's own"), "{error}");
        let error = try_out("nowhere.invalid", &listener).await.expect_err("no such name");
        assert!(matches!(error, RunError::Unreachable { .. }), "{error}");
    }
}
