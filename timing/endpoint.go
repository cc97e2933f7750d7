package timing

import (
	"context"
	"time"

	"whale/fabric"
	"whale/fabric/simfab"
	"whale/pmem"
)

// endpoint is a machine's place on the fabric: simfab's, and what its calls cost.
type endpoint struct {
	node    *Node
	inner   *simfab.Endpoint
	conns   int     // open ones
	backlog []*conn // the dialers' ends of connections that were not accepted yet
}

// registration is registered memory and where it is.
type registration struct {
	state
	node *Node
	in   *space
	off  uint64 // of the registration in the space
	size uint64
}

// Register implements fabric.Endpoint. Any memory will do; off must be a multiple of 8. Memory that is not the machine's
// [PM] counts as DRAM.
func (e *endpoint) Register(m pmem.Memory, off, n uint64, r fabric.Rights) (fabric.Key, error) {
	model := e.node.m
	t := model.begin()
	inner, pm := m, false
	if p, ok := m.(*PM); ok {
		inner, pm = p.inner, true
	}
	key, err := e.inner.Register(inner, off, n, r)
	if err != nil {
		return 0, err
	}
	t.clock += model.cost.register
	model.keys[key] = &registration{node: e.node, in: e.node.space(inner, pm), off: off, size: n}
	return key, nil
}

// Revoke implements fabric.Endpoint.
func (e *endpoint) Revoke(key fabric.Key) error {
	m := e.node.m
	t := m.begin()
	if reg := m.keys[key]; reg != nil && reg.node == e.node {
		t.clock += m.cost.withdraw
		e.node.nic.forget(&reg.state)
		delete(m.keys, key)
	}
	return e.inner.Revoke(key)
}

// Arm implements fabric.Endpoint.
func (e *endpoint) Arm() bool {
	e.node.m.begin()
	return e.inner.Arm()
}

// Wait implements fabric.Endpoint, in virtual time. Where nothing is under way, and no other thread is there to change
// that, it returns at once.
func (e *endpoint) Wait(d time.Duration) {
	m := e.node.m
	t := m.begin()
	until := t.clock + ps(d)*1000
	for !e.inner.Rung() && t.clock < until {
		at := m.events.next()
		if len(m.ready) > 0 {
			at = min(at, m.ready[0].clock)
		}
		if at == never {
			break
		}
		t.clock = min(until, max(at, t.clock+m.cost.cacheHit))
		m.begin()
	}
	e.inner.Wait(d)
}

// Disarm implements fabric.Endpoint.
func (e *endpoint) Disarm() {
	e.node.m.begin()
	e.inner.Disarm()
}

// Doorbell implements fabric.Endpoint: there is none.
func (e *endpoint) Doorbell() int { return -1 }

// Addr implements fabric.Endpoint: the machine's name.
func (e *endpoint) Addr() string { return e.inner.Addr() }

// Dial implements fabric.Endpoint. The peer must have called [Node.Listen].
func (e *endpoint) Dial(ctx context.Context, addr string, hello []byte) (fabric.Conn, []byte, error) {
	m := e.node.m
	t := m.begin()
	inner, reply, err := e.inner.Dial(ctx, addr, hello)
	if err != nil {
		return nil, nil, err
	}
	t.clock += m.cost.connect
	peer := m.nodes[addr].endpoint
	c := m.wrap(e, inner, peer.node)
	peer.backlog = append(peer.backlog, c)
	return c, reply, nil
}

// Accept implements fabric.Endpoint as simfab does: it returns the oldest connection that was dialed and not yet accepted,
// or an error; answer must be nil.
func (e *endpoint) Accept(ctx context.Context, answer func([]byte) ([]byte, error)) (fabric.Conn, error) {
	e.node.m.begin()
	inner, err := e.inner.Accept(ctx, answer)
	if err != nil {
		return nil, err
	}
	dialer := e.backlog[0]
	e.backlog = e.backlog[1:]
	c := e.node.m.wrap(e, inner, dialer.ep.node)
	c.peer = dialer
	c.peer.peer = c
	return c, nil
}

// Close implements fabric.Endpoint.
func (e *endpoint) Close() error {
	e.node.m.begin()
	return e.inner.Close()
}
