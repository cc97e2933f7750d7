package simfab

import (
	"context"
	"fmt"
	"time"

	"whale/fabric"
	"whale/pmem"
)

const maxHello = 4096

const knownRights = fabric.RemoteRead | fabric.RemoteWrite | fabric.RemoteAtomic | fabric.RemoteFlush

// Endpoint is one incarnation of a place on the network. It implements fabric.Endpoint.
type Endpoint struct {
	net     *Network
	name    string
	closed  bool
	keys    []fabric.Key // registered and not revoked
	conns   []*conn
	answer  func(hello []byte) ([]byte, error)
	backlog []*conn // dialed, answered, and not yet accepted
	armed   bool
	rung    bool
}

var _ fabric.Endpoint = (*Endpoint)(nil)

// Register implements fabric.Endpoint. Any memory will do; off must be a multiple of 8.
func (e *Endpoint) Register(m pmem.Memory, off, n uint64, r fabric.Rights) (fabric.Key, error) {
	if e.closed {
		return 0, fmt.Errorf("simfab: register at %s: %w", e.name, fabric.ErrClosed)
	}
	size := uint64(len(m.Bytes()))
	if n == 0 || n > size || off > size-n || off%8 != 0 {
		return 0, fmt.Errorf("simfab: register at %s: want a range inside the memory of %d bytes that starts at a multiple of 8, not %d bytes at %d", e.name, size, n, off)
	}
	if r&^knownRights != 0 {
		return 0, fmt.Errorf("simfab: register at %s: unknown rights %08b", e.name, r&^knownRights)
	}
	if len(e.net.regions) == 0 {
		e.net.regions = append(e.net.regions, nil) // the tag alone is no key
	}
	key := fabric.Key(keyTag + len(e.net.regions))
	e.net.regions = append(e.net.regions, &region{ep: e, mem: m, base: off, bytes: m.Bytes()[off : off+n : off+n], rights: r})
	e.keys = append(e.keys, key)
	return key, nil
}

// Revoke implements fabric.Endpoint. Operations that have not landed will find the key gone; but while one is in the middle
// ([Network.Begin]), and when [Options].Later says so, the answer is ErrInFlight.
func (e *Endpoint) Revoke(key fabric.Key) error {
	r := e.net.given(e, key)
	if r == nil {
		return nil
	}
	if !r.revoked {
		e.net.logf("revoke %s %s", e.name, e.net.keyName(key))
		r.revoked = true
		for i, k := range e.keys {
			if k == key {
				e.keys[i] = e.keys[len(e.keys)-1]
				e.keys = e.keys[:len(e.keys)-1]
				break
			}
		}
	}
	if r.inside > 0 || e.net.opts.Later != nil && e.net.opts.Later() {
		return fmt.Errorf("%w: under key %s of %s", fabric.ErrInFlight, e.net.keyName(key), e.name)
	}
	e.net.regions[uint64(key)-keyTag] = nil
	return nil
}

// Arm implements fabric.Endpoint.
func (e *Endpoint) Arm() bool {
	e.armed = !e.rung
	e.rung = false
	return e.armed
}

// Wait implements fabric.Endpoint. There is no clock to wait by: it consumes the ring and returns. A driver that parks a
// member watches Rung in its place.
func (e *Endpoint) Wait(time.Duration) { e.armed, e.rung = false, false }

// Disarm implements fabric.Endpoint.
func (e *Endpoint) Disarm() { e.armed = false }

// Rung: something has rung since the last Arm or Wait.
func (e *Endpoint) Rung() bool { return e.rung }

// Armed: Arm was true, and there was no Wait since.
func (e *Endpoint) Armed() bool { return e.armed }

func (e *Endpoint) ring() {
	if !e.rung {
		e.net.logf("ring %s", e.name)
	}
	e.rung = true
}

// Doorbell implements fabric.Endpoint: there is none.
func (e *Endpoint) Doorbell() int { return -1 }

// Addr implements fabric.Endpoint: it is the name.
func (e *Endpoint) Addr() string { return e.name }

// Listen installs the function that answers those who dial this endpoint; nil refuses them. It runs inside Dial.
func (e *Endpoint) Listen(answer func(hello []byte) ([]byte, error)) { e.answer = answer }

// Dial implements fabric.Endpoint. The peer must have called Listen; its end of the connection waits for its Accept.
func (e *Endpoint) Dial(ctx context.Context, addr string, hello []byte) (fabric.Conn, []byte, error) {
	fail := func(format string, args ...any) (fabric.Conn, []byte, error) {
		return nil, nil, fmt.Errorf("simfab: %s dials %s: "+format, append([]any{e.name, addr}, args...)...)
	}
	peer := e.net.endpoints[addr]
	switch {
	case e.closed:
		return fail("%w", fabric.ErrClosed)
	case ctx.Err() != nil:
		return fail("%w", ctx.Err())
	case len(hello) > maxHello:
		return fail("a hello of %d bytes, at most %d are allowed", len(hello), maxHello)
	case peer == nil || peer.closed:
		return fail("%w: there is no such endpoint", fabric.ErrBroken)
	case e.net.held[route{e.name, addr}] || e.net.held[route{addr, e.name}]:
		return fail("%w: the way is held", fabric.ErrBroken)
	case peer.answer == nil:
		return fail("refused: it does not listen")
	}
	reply, err := peer.answer(append([]byte(nil), hello...))
	if err != nil {
		return fail("refused: %w", err)
	}
	if len(reply) > maxHello {
		return fail("its answer has %d bytes, at most %d are allowed", len(reply), maxHello)
	}
	if e.closed || peer.closed {
		return fail("%w", fabric.ErrClosed)
	}
	mine, theirs := e.net.connect(e, peer)
	peer.backlog = append(peer.backlog, theirs)
	return mine, append([]byte(nil), reply...), nil
}

// Accept implements fabric.Endpoint as far as can be without waiting: it returns the oldest connection that was dialed and
// not yet accepted, or an error. The function given to Listen has answered already, so answer must be nil.
func (e *Endpoint) Accept(ctx context.Context, answer func([]byte) ([]byte, error)) (fabric.Conn, error) {
	switch {
	case e.closed:
		return nil, fmt.Errorf("simfab: accept at %s: %w", e.name, fabric.ErrClosed)
	case answer != nil:
		return nil, fmt.Errorf("simfab: accept at %s: nothing waits here for an answer; give the function to Listen and nil to Accept", e.name)
	case len(e.backlog) == 0:
		return nil, fmt.Errorf("simfab: accept at %s: nobody has dialed", e.name)
	}
	c := e.backlog[0]
	e.backlog = e.backlog[1:]
	return c, nil
}

// Close implements fabric.Endpoint. What has not landed here never does, nor the rest of what is in the middle.
func (e *Endpoint) Close() error {
	if e.closed {
		return nil
	}
	e.net.logf("close %s", e.name)
	e.closed = true
	for _, key := range e.keys {
		e.net.regions[uint64(key)-keyTag] = nil
	}
	for len(e.conns) > 0 {
		e.conns[len(e.conns)-1].Close()
	}
	e.net.dropMiddle(func(o *op) bool { return o.c.ep == e || o.c.peer.ep == e })
	e.keys, e.backlog = nil, nil
	return nil
}

func (e *Endpoint) forget(c *conn) {
	for i, have := range e.conns {
		if have == c {
			e.conns = append(e.conns[:i], e.conns[i+1:]...)
			return
		}
	}
}
