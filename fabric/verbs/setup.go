//go:build verbs && cgo && linux

package verbs

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"whale/fabric"
	"whale/fabric/internal/handshake"
)

// Setting up a connection, over the socket that stays beside it:
//
//	dialing                                       accepting
//	mutual proof of the secret
//	offer, hello                         --->
//	                                              queue pair is ready to receive and to send
//	                                     <---     offer, answer; or a refusal
//	queue pair is ready to receive and to send
//	nothing                              --->
//
// The accepting side sends nothing before the last message, so no packet comes to a queue pair that is not ready.
const (
	// setupLimit is how long a socket may take to become part of a connection.
	setupLimit = 15 * time.Second
	// maxStrangers are the sockets that have not yet; more are closed at once.
	maxStrangers = 256
)

// arrival is a socket that is waiting for an Accept, or why there is none.
type arrival struct {
	side  *net.TCPConn
	offer offer
	hello []byte
	err   error
}

// Dial implements [fabric.Endpoint]. It waits until the peer accepts or ctx ends.
func (e *Endpoint) Dial(ctx context.Context, addr string, hello []byte) (_ fabric.Conn, answer []byte, err error) {
	if len(hello) > handshake.MaxBlob {
		return nil, nil, fmt.Errorf("verbs: a hello of %d bytes, at most %d", len(hello), handshake.MaxBlob)
	}
	ctx, end, err := e.begin(ctx)
	if err != nil {
		return nil, nil, err
	}
	defer end()
	c, answer, err := e.dial(ctx, addr, hello)
	if err != nil {
		return nil, nil, fmt.Errorf("verbs: dial %s: %w", addr, cause(ctx, err))
	}
	return c, answer, nil
}

func (e *Endpoint) dial(ctx context.Context, addr string, hello []byte) (_ *conn, answer []byte, err error) {
	raw, err := e.dialer(ctx, addr)
	if err != nil {
		return nil, nil, err
	}
	side := raw.(*net.TCPConn)
	limited := handshake.Limit(ctx, side, 0)
	var c *conn
	defer func() {
		if late := limited(); late != nil && err == nil {
			err = late
		}
		if err != nil {
			side.Close()
			c.abandon()
		}
	}()
	if err := e.adopt(side); err != nil {
		return nil, nil, err
	}
	if err := handshake.Dial(side, e.secret); err != nil {
		return nil, nil, err
	}
	if c, err = e.newConn(side); err != nil {
		return nil, nil, err
	}
	if err := handshake.WriteBlob(side, append(c.mine.encode(), hello...)); err != nil {
		return nil, nil, err
	}
	reply, err := handshake.ReadBlob(side, offerSize+handshake.MaxBlob)
	if err != nil {
		return nil, nil, err
	}
	peer, answer, err := decodeOffer(reply)
	if err != nil {
		return nil, nil, err
	}
	if err := c.connect(&peer); err != nil {
		return nil, nil, err
	}
	if err := handshake.WriteBlob(side, nil); err != nil {
		return nil, nil, err
	}
	if err := limited(); err != nil { // before the socket is the connection's
		return nil, nil, err
	}
	limited = func() error { return nil }
	return c, answer, c.start()
}

// Accept implements [fabric.Endpoint]. A process that connected and then failed to become a connection (another secret,
// garbage, too slow, refused by answer) is an error too, if it does so while somebody waits here; the endpoint goes on, and
// so should a caller that serves many. The end of the endpoint is ErrClosed.
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
		return nil, fmt.Errorf("verbs: accept: %w", context.Cause(ctx))
	}
	if a.err != nil {
		return nil, fmt.Errorf("verbs: accept: %w", a.err)
	}
	c, err := e.accept(ctx, a, answer)
	if err != nil {
		return nil, fmt.Errorf("verbs: accept %s: %w", a.side.RemoteAddr(), cause(ctx, err))
	}
	return c, nil
}

func (e *Endpoint) accept(ctx context.Context, a *arrival, answer func([]byte) ([]byte, error)) (_ *conn, err error) {
	limited := sync.OnceValue(handshake.Limit(ctx, a.side, setupLimit))
	var c *conn
	defer func() {
		if late := limited(); late != nil && err == nil {
			err = late
		}
		if err != nil {
			a.side.Close()
			c.abandon()
		}
	}()
	reply, err := answer(a.hello)
	if err == nil && len(reply) > handshake.MaxBlob {
		err = fmt.Errorf("verbs: an answer of %d bytes, at most %d", len(reply), handshake.MaxBlob)
	}
	if err == nil {
		if c, err = e.newConn(a.side); err == nil {
			err = c.connect(&a.offer)
		}
	}
	if err != nil {
		handshake.WriteRefusal(a.side, err)
		return nil, err
	}
	if err := handshake.WriteBlob(a.side, append(c.mine.encode(), reply...)); err != nil {
		return nil, err
	}
	if _, err := handshake.ReadBlob(a.side, 0); err != nil {
		return nil, err
	}
	if err := limited(); err != nil { // before the socket is the connection's
		return nil, err
	}
	return c, c.start()
}

// acceptSockets greets whoever connects, each in a goroutine, until the endpoint is closed.
func (e *Endpoint) acceptSockets() {
	defer e.tasks.Done()
	for {
		side, err := e.listener.AcceptTCP()
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
		case e.stranger <- struct{}{}:
		default:
			side.Close()
			continue
		}
		e.tasks.Go(func() {
			defer func() { <-e.stranger }()
			e.greet(side)
		})
	}
}

// greet asks for the secret and for the offer, and hands the socket to an Accept.
func (e *Endpoint) greet(side *net.TCPConn) {
	limited := handshake.Limit(e.life, side, setupLimit)
	a := &arrival{side: side}
	err := e.adopt(side)
	if err == nil {
		err = handshake.Accept(side, e.secret)
	}
	var blob []byte
	if err == nil {
		blob, err = handshake.ReadBlob(side, offerSize+handshake.MaxBlob)
	}
	if err == nil {
		if a.offer, a.hello, err = decodeOffer(blob); err != nil {
			handshake.WriteRefusal(side, err)
		}
	}
	if err = errors.Join(err, limited()); err != nil {
		side.Close()
		select {
		case e.arrivals <- &arrival{err: fmt.Errorf("%s: %w", side.RemoteAddr(), err)}:
		default: // nobody waits to hear it
		}
		return
	}
	limit := time.NewTimer(setupLimit)
	defer limit.Stop()
	select {
	case e.arrivals <- a:
	case <-limit.C:
		side.Close()
	case <-e.life.Done():
		side.Close()
	}
}

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

// connect brings the queue pair to life.
func (c *conn) connect(peer *offer) error {
	if peer.link != c.mine.link {
		return fmt.Errorf("one end is on InfiniBand and the other on Ethernet (links %d and %d)", c.mine.link, peer.link)
	}
	if err := c.q.connect(path{mine: &c.mine, peer: peer, port: c.ep.gid.port, gidIndex: c.ep.gid.index}); err != nil {
		return fmt.Errorf("connecting the queue pair from %s of device %s to %s: %w: can the two addresses reach each other on the devices' interfaces?",
			c.ep.gid.addr(), c.ep.dev.name, (&gid{raw: peer.gid}).addr(), err)
	}
	c.plan = planFor(c.ep.canSend(), peer)
	c.scratchKey, c.scratch = peer.scratchKey, peer.scratch
	return nil
}

// randomPacket is the number of the first packet: random, so that packets of an earlier connection are not taken for this
// one's.
func randomPacket() (uint32, error) {
	var b [4]byte
	_, err := rand.Read(b[:])
	return binary.LittleEndian.Uint32(b[:]) & (1<<24 - 1), err
}
