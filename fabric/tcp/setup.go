package tcp

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"sync"
	"time"

	"whale/fabric"
	"whale/fabric/internal/handshake"
	"whale/pmem"
)

// Setting up a connection:
//
//	dialing                                       accepting
//	first socket: mutual proof of the secret
//	  'N', domain 1, hello                 --->
//	                                       <---   domain 1, token 16, answer; or a refusal
//	second socket: mutual proof of the secret
//	  'S', token 16                        --->
//	                                       <---   nothing, or a refusal
//
// The requests of the dialing side go over the first socket, those of the accepting side over the second.
const (
	roleFirst  = 'N'
	roleSecond = 'S'

	// setupLimit is how long a socket may take to become part of a connection.
	setupLimit = 5 * time.Second
	// maxStrangers are the sockets that have not yet; more are closed at once.
	maxStrangers = 256
)

// token names a connection whose second socket is awaited. It is random: only who got it over the first socket knows it.
type token [16]byte

// arrival is a first socket that is waiting for an Accept, or why there is none.
type arrival struct {
	sock   socket
	domain pmem.Domain
	hello  []byte
	err    error
}

// Dial implements [fabric.Endpoint]. It waits until the peer accepts or ctx ends.
func (e *Endpoint) Dial(ctx context.Context, addr string, hello []byte) (_ fabric.Conn, answer []byte, err error) {
	if len(hello) > handshake.MaxBlob {
		return nil, nil, fmt.Errorf("tcp: a hello of %d bytes, at most %d", len(hello), handshake.MaxBlob)
	}
	ctx, end, err := e.begin(ctx)
	if err != nil {
		return nil, nil, err
	}
	defer end()
	first, reply, err := e.dialSocket(ctx, addr, append([]byte{roleFirst, byte(e.domain)}, hello...))
	if err != nil {
		return nil, nil, fmt.Errorf("tcp: dial %s: %w", addr, cause(ctx, err))
	}
	var t token
	if len(reply) < 1+len(t) || len(reply)-1-len(t) > handshake.MaxBlob || !known(reply[0]) {
		first.Close()
		return nil, nil, fmt.Errorf("tcp: dial %s: malformed answer of %d bytes", addr, len(reply))
	}
	copy(t[:], reply[1:])
	second, _, err := e.dialSocket(ctx, addr, append([]byte{roleSecond}, t[:]...))
	if err != nil {
		first.Close()
		return nil, nil, fmt.Errorf("tcp: dial %s a second time: %w", addr, cause(ctx, err))
	}
	c, err := e.newConn(first, second, pmem.Domain(reply[0]))
	if err != nil {
		first.Close()
		second.Close()
		return nil, nil, err
	}
	return c, reply[1+len(t):], nil
}

// known says whether a byte of a peer is a persistence domain.
func known(domain byte) bool { return pmem.Domain(domain) <= pmem.EADR }

// dialSocket connects, proves the secret, sends a blob and returns the answer to it.
func (e *Endpoint) dialSocket(ctx context.Context, addr string, blob []byte) (_ socket, reply []byte, err error) {
	var d net.Dialer
	raw, err := d.DialContext(ctx, "tcp", addr)
	if err != nil {
		return socket{}, nil, err
	}
	s := socket{Conn: raw, tcp: raw.(*net.TCPConn)}
	limited := handshake.Limit(ctx, s.tcp, 0)
	defer func() {
		if late := limited(); late != nil && err == nil {
			err = late
		}
		if err != nil {
			s.Close()
		}
	}()
	if err := e.adopt(s.tcp); err != nil {
		return s, nil, err
	}
	if e.tls != nil {
		config := e.tls.Clone()
		if config.ServerName, _, err = net.SplitHostPort(addr); err != nil {
			return s, nil, err
		}
		s.under = &under{s.tcp}
		s.Conn = tls.Client(s.under, config)
	}
	if err := handshake.Dial(s, e.secret); err != nil {
		return s, nil, err
	}
	if err := handshake.WriteBlob(s, blob); err != nil {
		return s, nil, err
	}
	reply, err = handshake.ReadBlob(s, 1+len(token{})+handshake.MaxBlob)
	return s, reply, err
}

// Accept implements [fabric.Endpoint]. A process that connected and then failed to become a connection (another secret,
// no TLS, garbage, too slow, refused by answer) is an error too, if it does so while somebody waits here; the endpoint
// goes on, and so should a caller that serves many. The end of the endpoint is ErrClosed.
func (e *Endpoint) Accept(ctx context.Context, answer func(hello []byte) ([]byte, error)) (fabric.Conn, error) {
	ctx, end, err := e.begin(ctx)
	if err != nil {
		return nil, err
	}
	defer end()
	var a *arrival
	select {
	case a = <-e.arrivals:
	case <-ctx.Done():
		return nil, fmt.Errorf("tcp: accept: %w", context.Cause(ctx))
	}
	if a.err != nil {
		return nil, fmt.Errorf("tcp: accept: %w", a.err)
	}
	c, err := e.accept(ctx, a, answer)
	if err != nil {
		a.sock.Close()
		return nil, fmt.Errorf("tcp: accept %s: %w", a.sock.RemoteAddr(), cause(ctx, err))
	}
	return c, nil
}

func (e *Endpoint) accept(ctx context.Context, a *arrival, answer func([]byte) ([]byte, error)) (*conn, error) {
	limited := sync.OnceValue(handshake.Limit(ctx, a.sock.tcp, setupLimit))
	defer limited()
	reply, err := answer(a.hello)
	if err == nil && len(reply) > handshake.MaxBlob {
		err = fmt.Errorf("tcp: an answer of %d bytes, at most %d", len(reply), handshake.MaxBlob)
	}
	if err != nil {
		handshake.WriteRefusal(a.sock, err)
		return nil, err
	}
	var t token
	if _, err := rand.Read(t[:]); err != nil {
		return nil, err
	}
	arrives := make(chan socket, 1)
	e.mu.Lock()
	e.waiting[t] = arrives
	e.mu.Unlock()
	defer func() {
		e.mu.Lock()
		delete(e.waiting, t)
		e.mu.Unlock()
		select {
		case late := <-arrives: // delivered, and not wanted any more
			late.Close()
		default:
		}
	}()
	if err := handshake.WriteBlob(a.sock, append(append([]byte{byte(e.domain)}, t[:]...), reply...)); err != nil {
		return nil, err
	}
	limit := time.NewTimer(setupLimit)
	defer limit.Stop()
	select {
	case second := <-arrives:
		return e.pair(ctx, a, second, limited)
	case <-limit.C:
		return nil, fmt.Errorf("no second socket within %v", setupLimit)
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}

// pair makes the connection and tells the peer so.
func (e *Endpoint) pair(ctx context.Context, a *arrival, second socket, limited func() error) (_ *conn, err error) {
	late := handshake.Limit(ctx, second.tcp, setupLimit)
	err = handshake.WriteBlob(second, nil)
	if err = errors.Join(err, late(), limited()); err == nil {
		var c *conn
		if c, err = e.newConn(second, a.sock, a.domain); err == nil {
			return c, nil
		}
	}
	second.Close()
	return nil, err
}

// acceptSockets greets whoever connects, each in a goroutine, until the endpoint is closed.
func (e *Endpoint) acceptSockets() {
	defer e.tasks.Done()
	for {
		raw, err := e.listener.AcceptTCP()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil { // out of descriptors, for one: the dialing side tries again
			select {
			case <-time.After(10 * time.Millisecond):
				continue
			case <-e.life.Done():
				return
			}
		}
		select {
		case e.strangers <- struct{}{}:
		default:
			raw.Close()
			continue
		}
		e.tasks.Go(func() {
			defer func() { <-e.strangers }()
			e.greet(raw)
		})
	}
}

// greet finds out what a socket is for and hands it over.
func (e *Endpoint) greet(raw *net.TCPConn) {
	s := socket{Conn: raw, tcp: raw}
	limited := handshake.Limit(e.life, raw, setupLimit)
	if e.tls != nil {
		s.under = &under{raw}
		s.Conn = tls.Server(s.under, e.tls)
	}
	a, err := e.identify(s)
	if err = errors.Join(err, limited()); err != nil {
		s.Close()
		select {
		case e.arrivals <- &arrival{err: fmt.Errorf("%s: %w", raw.RemoteAddr(), err)}:
		default: // nobody waits to hear it
		}
		return
	}
	if a == nil {
		return
	}
	limit := time.NewTimer(setupLimit)
	defer limit.Stop()
	select {
	case e.arrivals <- a:
	case <-limit.C:
		s.Close()
	case <-e.life.Done():
		s.Close()
	}
}

// identify asks for the secret and for what the socket is for. A second socket goes to the Accept that waits for it.
func (e *Endpoint) identify(s socket) (*arrival, error) {
	if err := e.adopt(s.tcp); err != nil {
		return nil, err
	}
	if err := handshake.Accept(s, e.secret); err != nil {
		return nil, err
	}
	blob, err := handshake.ReadBlob(s, 2+handshake.MaxBlob)
	switch {
	case err != nil:
		return nil, err
	case len(blob) >= 2 && blob[0] == roleFirst && known(blob[1]):
		return &arrival{sock: s, domain: pmem.Domain(blob[1]), hello: blob[2:]}, nil
	case len(blob) == 1+len(token{}) && blob[0] == roleSecond:
		var t token
		copy(t[:], blob[1:])
		e.mu.Lock()
		arrives := e.waiting[t]
		delete(e.waiting, t)
		e.mu.Unlock()
		if arrives != nil {
			arrives <- s // has room for one
			return nil, nil
		}
		err = errors.New("nobody waits for this second socket: it came too late")
	default:
		err = fmt.Errorf("malformed request of %d bytes", len(blob))
	}
	handshake.WriteRefusal(s, err)
	return nil, err
}

// begin ties a setup to the life of the endpoint.
func (e *Endpoint) begin(ctx context.Context) (context.Context, func(), error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.closed {
		return nil, nil, fabric.ErrClosed
	}
	e.setups.Add(1)
	ctx, cancel := context.WithCancelCause(ctx)
	stop := context.AfterFunc(e.life, func() { cancel(fabric.ErrClosed) })
	return ctx, func() {
		stop()
		cancel(nil)
		e.setups.Done()
	}, nil
}

// cause is why ctx ended, if that is what made err.
func cause(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return err
}
