package node

import (
	"errors"
	"fmt"
	"net"
	"net/netip"

	"golang.org/x/sys/unix"
)

const backlog = 1024 // connections that the kernel keeps until they are accepted

// CheckListen says whether a node may listen on addr ("host:port"): without insecure only on a loopback address, because
// whoever reaches the port reads and writes everything. (With TLS that is whoever has a certificate of the cluster's.)
func CheckListen(addr string, insecure bool) error {
	ap, err := resolve(addr)
	if err != nil {
		return err
	}
	if !insecure && !ap.Addr().IsLoopback() {
		return fmt.Errorf("listening on %s would let anybody who reaches it read and write everything, unencrypted and without a password: "+
			"use TLS (--tls-cert; whale cert makes what it needs), or a loopback address (--listen 127.0.0.1:%d), or accept that with --insecure", addr, ap.Port())
	}
	return nil
}

func resolve(addr string) (netip.AddrPort, error) {
	tcp, err := net.ResolveTCPAddr("tcp", addr)
	if err != nil {
		return netip.AddrPort{}, fmt.Errorf("--listen %q (or --port): %w; expected host:port, as in 127.0.0.1:7001", addr, err)
	}
	ap := tcp.AddrPort()
	if !ap.Addr().IsValid() { // ":7001"
		ap = netip.AddrPortFrom(netip.IPv6Unspecified(), ap.Port())
	}
	return netip.AddrPortFrom(ap.Addr().Unmap(), ap.Port()), nil
}

// listen opens a non-blocking listening socket, and says what address it has: port 0 picks a free one.
func listen(addr string) (fd int, bound string, err error) {
	ap, err := resolve(addr)
	if err != nil {
		return -1, "", err
	}
	family, sa := unix.AF_INET, sockaddr(ap)
	if ap.Addr().Is6() {
		family = unix.AF_INET6
	}
	fd, err = unix.Socket(family, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return -1, "", fmt.Errorf("socket: %w", err)
	}
	// A restarted node gets its port back although connections of its predecessor are still in TIME_WAIT.
	err = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1)
	if err == nil {
		err = unix.Bind(fd, sa)
	}
	if err == nil {
		err = unix.Listen(fd, backlog)
	}
	if err == nil {
		sa, err = unix.Getsockname(fd)
	}
	if err != nil {
		unix.Close(fd)
		hint := ""
		switch {
		case errors.Is(err, unix.EADDRINUSE):
			hint = ": another process listens there; stop it, or choose another port with --port (or --listen)"
		case errors.Is(err, unix.EADDRNOTAVAIL):
			hint = ": no interface of this machine has that address; change --listen"
		case errors.Is(err, unix.EACCES):
			hint = ": ports below 1024 need privileges; choose another with --port (or --listen)"
		}
		return -1, "", fmt.Errorf("cannot listen for Redis clients on %s: %w%s", ap, err, hint)
	}
	return fd, addrString(sa), nil
}

func sockaddr(ap netip.AddrPort) unix.Sockaddr {
	if ap.Addr().Is4() {
		return &unix.SockaddrInet4{Addr: ap.Addr().As4(), Port: int(ap.Port())}
	}
	sa := &unix.SockaddrInet6{Addr: ap.Addr().As16(), Port: int(ap.Port())}
	if ifi, err := net.InterfaceByName(ap.Addr().Zone()); err == nil {
		sa.ZoneId = uint32(ifi.Index)
	}
	return sa
}

func addrString(sa unix.Sockaddr) string {
	switch sa := sa.(type) {
	case *unix.SockaddrInet4:
		return netip.AddrPortFrom(netip.AddrFrom4(sa.Addr), uint16(sa.Port)).String()
	case *unix.SockaddrInet6:
		return netip.AddrPortFrom(netip.AddrFrom16(sa.Addr).Unmap(), uint16(sa.Port)).String()
	}
	return "unknown"
}
