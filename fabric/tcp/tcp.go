// Package tcp is the provider of package fabric for processes that a network connects.
//
// A connection is two sockets. On each, one side sends requests and the other answers them: the answers of one never
// wait behind the requests of the other, so neither side can keep the other from reading. What plays the network card of
// the target is a goroutine of this package in the target's process: it applies Writes to the registered memory, executes
// all else and answers. The goroutine that owns the connection takes no part.
//
//	initiator                                              target
//	Post: frames, one writev ------ requests ------------> target.run: key, bounds, copy
//	Poll: read <------------------- acknowledgements ----- one for all that one read brought
//
// The owner of the connection reads the answers by itself, in Poll, and parks on the socket: one thread is woken up by an
// answer, not two. So the answers to an owner that does not poll fill the socket and hold up its later operations, never
// those of others.
//
// An operation is complete when the target has answered it, so every completion of a Write says that it has landed.
//
// # Revocation
//
// The key is checked where the memory is. The target's goroutine holds it during a copy between two places in memory,
// never while it waits for the network, so a withdrawal is exact, and soon, whatever the peer does.
//
// # Trust
//
// Whoever connects proves that it holds the cluster's secret before anything else is read; then frames are checked, and
// memory is bounded, as though it had not. Headers have a checksum; payloads have that of TCP, and their own if they need
// a better one. The secret does not protect what follows: a network that others can touch needs TLS.
package tcp

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"net"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"whale/fabric"
	"whale/fabric/internal/handshake"
	"whale/pmem"
)

// DefaultPeerTimeout is how long a silent machine is taken to be alive.
const DefaultPeerTimeout = 5 * time.Second

// Options configure an endpoint.
type Options struct {
	// Listen is where peers connect, host:port; port 0: any free one.
	Listen string
	// Secret is the cluster's secret: at least 16 bytes, the same at every endpoint.
	Secret []byte
	// TLS, if not nil, protects every connection, in both directions: it needs the certificate of this endpoint, RootCAs
	// to check whom it dials, and ClientCAs with RequireAndVerifyClientCert to check who dials. All endpoints have it or
	// none.
	TLS *tls.Config
	// Domain is the persistence domain of the memory that peers will flush; they see it in Caps. The zero value, None,
	// makes them refuse durable flushes.
	Domain pmem.Domain
	// PeerTimeout is how long the machine of a peer may be silent before the connection is lost. A process that dies is
	// noticed at once. 0: DefaultPeerTimeout; at least 1 s.
	PeerTimeout time.Duration
}

// Endpoint is a place on the fabric, at a TCP address. See [fabric.Endpoint] for who may call what.
type Endpoint struct {
	secret    []byte
	tls       *tls.Config
	domain    pmem.Domain
	timeout   time.Duration
	bell      *bell
	listener  *net.TCPListener
	arrivals  chan *arrival // sockets whose peers want to connect, or failed to
	strangers chan struct{} // a place for each socket of which nothing is known yet
	life      context.Context
	end       context.CancelFunc
	tasks     sync.WaitGroup // goroutines of the listener

	// registrations, by the index in their key. The hot path reads them without the lock.
	registrations [keyEntries]atomic.Pointer[registration]

	mu      sync.Mutex
	closed  bool
	serial  uint64         // of the newest key: starts at random, so that an endpoint made anew repeats none
	setups  sync.WaitGroup // Dials and Accepts; added to under mu while not closed
	conns   map[*conn]struct{}
	waiting map[token]chan socket // Accepts that wait for the second socket
}

var _ fabric.Endpoint = (*Endpoint)(nil)

// Open listens, and makes the endpoint.
func Open(o Options) (_ *Endpoint, err error) {
	if err := handshake.CheckSecret(o.Secret); err != nil {
		return nil, err
	}
	if o.PeerTimeout == 0 {
		o.PeerTimeout = DefaultPeerTimeout
	}
	if o.PeerTimeout < time.Second {
		return nil, fmt.Errorf("tcp: a peer timeout of %v; expected at least 1s", o.PeerTimeout)
	}
	addr, err := net.ResolveTCPAddr("tcp", o.Listen)
	if err != nil {
		return nil, fmt.Errorf("tcp: listen address %q: %w; expected host:port", o.Listen, err)
	}
	var serial [8]byte
	if _, err := rand.Read(serial[:]); err != nil {
		return nil, err
	}
	e := &Endpoint{
		secret: append([]byte(nil), o.Secret...), tls: o.TLS, domain: o.Domain, timeout: o.PeerTimeout,
		arrivals: make(chan *arrival), strangers: make(chan struct{}, maxStrangers),
		serial: binary.LittleEndian.Uint64(serial[:]) >> (keyBits + 1), // so that 2^53 more fit
		conns:  map[*conn]struct{}{}, waiting: map[token]chan socket{},
	}
	if e.bell, err = newBell(); err != nil {
		return nil, err
	}
	if e.listener, err = net.ListenTCP("tcp", addr); err != nil {
		e.bell.close()
		return nil, fmt.Errorf("tcp: %w", err)
	}
	e.life, e.end = context.WithCancel(context.Background())
	e.tasks.Add(1)
	go e.acceptSockets()
	return e, nil
}

// Addr is the address that this endpoint listens on, host:port.
func (e *Endpoint) Addr() string { return e.listener.Addr().String() }

// Arm implements [fabric.Endpoint].
func (e *Endpoint) Arm() bool { return e.bell.arm() }

// Disarm implements [fabric.Endpoint].
func (e *Endpoint) Disarm() { e.bell.disarm() }

// Wait implements [fabric.Endpoint].
func (e *Endpoint) Wait(d time.Duration) { e.bell.wait(d) }

// Doorbell is an epoll descriptor. It must not be used after Close.
func (e *Endpoint) Doorbell() int { return e.bell.fd }

// Close implements [fabric.Endpoint]. Nothing of any connection lands in the registered memory any more when it returns.
// An error that is ErrInFlight says that of the memory of a peer it is not known: see Conn.Close.
func (e *Endpoint) Close() error {
	e.mu.Lock()
	if e.closed {
		e.mu.Unlock()
		return nil
	}
	e.closed = true
	e.mu.Unlock()
	e.end()
	e.listener.Close()
	e.setups.Wait()
	e.mu.Lock()
	conns := slices.Collect(maps.Keys(e.conns))
	e.mu.Unlock()
	errs := make([]error, len(conns))
	var closing sync.WaitGroup
	for i, c := range conns {
		closing.Go(func() { errs[i] = c.shut() })
	}
	closing.Wait()
	e.tasks.Wait()
	for i := range e.registrations {
		for r := e.registrations[i].Load(); r != nil && errors.Is(e.Revoke(r.key), fabric.ErrInFlight); {
			runtime.Gosched() // the owner of a connection is in the middle of Post
		}
	}
	errs = append(errs, e.bell.close())
	return errors.Join(errs...)
}

// socket is one of the two of a connection.
type socket struct {
	net.Conn              // what is read and written: tcp itself, or TLS over it
	tcp      *net.TCPConn //
	under    *under       // with TLS: what lies below it
}

// Close ends the socket at once. TLS would wait to say good-bye.
func (s socket) Close() error { return s.tcp.Close() }

// adopt sets what every socket of this endpoint needs. The peer's machine is asked for a sign of life when it is silent,
// and must confirm what is sent to it.
func (e *Endpoint) adopt(c *net.TCPConn) error {
	period := max(e.timeout/4, time.Second)
	if err := c.SetKeepAliveConfig(net.KeepAliveConfig{Enable: true, Idle: period, Interval: period, Count: 3}); err != nil {
		return err
	}
	raw, err := c.SyscallConn()
	if err != nil {
		return err
	}
	if cerr := raw.Control(func(fd uintptr) {
		err = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, int(e.timeout.Milliseconds()))
	}); cerr != nil {
		return cerr
	}
	return err
}
