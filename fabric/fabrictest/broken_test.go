package fabrictest_test

import (
	"context"
	"errors"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"whale/fabric"
	"whale/fabric/fabrictest"
	"whale/fabric/simfab"
	"whale/pmem"
)

type connect = func(hello []byte, answer func([]byte) ([]byte, error)) (a, b fabric.Conn, reply []byte, err error)

// fault is a way to spoil a good provider, and checks of the suite that must notice.
type fault struct {
	name     string
	caught   []string
	conn     func() *badConn       // one for each end of each connection; nil: as it is
	endpoint func(*badEndpoint)    // sets its hooks
	caps     func(*fabric.Caps)    // lies
	connect  func(connect) connect // tampers with the handshake
	opts     func(*simfab.Options) // of the good provider
}

// badConn is a connection that is tampered with on the way in and on the way out.
type badConn struct {
	fabric.Conn
	caps  func(*fabric.Caps)
	post  func(c *badConn, ops []fabric.Op) int         // in place of all else
	batch func([]fabric.Op) []fabric.Op                 // of a copy
	out   func([]fabric.Completion) []fabric.Completion // of what was polled, all there is
	poll  func(fabric.Conn, []fabric.Completion) int
	close func(fabric.Conn) error
	taken func(posted, taken int) int
	held  []fabric.Op
	count int
	ready []fabric.Completion
}

func (c *badConn) Caps() fabric.Caps {
	caps := c.Conn.Caps()
	if c.caps != nil {
		c.caps(&caps)
	}
	return caps
}

func (c *badConn) Post(ops []fabric.Op) int {
	mine := slices.Clone(ops)
	if c.post != nil {
		return c.post(c, mine)
	}
	if c.batch != nil {
		mine = c.batch(mine)
	}
	n := min(c.Conn.Post(mine), len(ops))
	if c.taken != nil {
		return c.taken(len(ops), n)
	}
	return n
}

func (c *badConn) Poll(dst []fabric.Completion) int {
	if c.poll != nil {
		return c.poll(c.Conn, dst)
	}
	if c.out == nil {
		c.out = func(in []fabric.Completion) []fabric.Completion { return in }
	}
	for len(dst) > 0 {
		var space [64]fabric.Completion
		n := c.Conn.Poll(space[:])
		if n == 0 {
			break
		}
		c.ready = append(c.ready, c.out(slices.Clone(space[:n]))...)
	}
	n := copy(dst, c.ready)
	c.ready = c.ready[n:]
	return n
}

func (c *badConn) Close() error {
	if c.close != nil {
		return c.close(c.Conn)
	}
	return c.Conn.Close()
}

// badEndpoint is an endpoint some of whose methods are replaced.
type badEndpoint struct {
	fabric.Endpoint
	register func(pmem.Memory, uint64, uint64, fabric.Rights) (fabric.Key, error)
	revoke   func(fabric.Key) error
	arm      func() bool
	wait     func(time.Duration)
	disarm   func()
	closed   func() error
	anywhere bool // Dial goes to itself when nobody is there
}

func (e *badEndpoint) Dial(ctx context.Context, addr string, hello []byte) (fabric.Conn, []byte, error) {
	c, reply, err := e.Endpoint.Dial(ctx, addr, hello)
	if err != nil && e.anywhere {
		self := e.Endpoint.(*simfab.Endpoint)
		self.Listen(func([]byte) ([]byte, error) { return nil, nil })
		return self.Dial(ctx, self.Addr(), hello)
	}
	return c, reply, err
}

func (e *badEndpoint) Register(m pmem.Memory, off, n uint64, r fabric.Rights) (fabric.Key, error) {
	if e.register != nil {
		return e.register(m, off, n, r)
	}
	return e.Endpoint.Register(m, off, n, r)
}

func (e *badEndpoint) Revoke(k fabric.Key) error {
	if e.revoke != nil {
		return e.revoke(k)
	}
	return e.Endpoint.Revoke(k)
}

func (e *badEndpoint) Arm() bool {
	if e.arm != nil {
		return e.arm()
	}
	return e.Endpoint.Arm()
}

func (e *badEndpoint) Disarm() {
	if e.disarm != nil {
		e.disarm()
		return
	}
	e.Endpoint.Disarm()
}

func (e *badEndpoint) Wait(d time.Duration) {
	if e.wait != nil {
		e.wait(d)
		return
	}
	e.Endpoint.Wait(d)
}

func (e *badEndpoint) Close() error {
	if e.closed != nil {
		return e.closed()
	}
	return e.Endpoint.Close()
}

// factory makes pairs on a simulated network that lets as much happen as it may, spoiled by f.
func factory(f fault, opts simfab.Options) fabrictest.Factory {
	return func(t testing.TB) *fabrictest.Pair {
		n := simfab.New(opts)
		a, b := n.Endpoint("A"), n.Endpoint("B")
		rng := rand.New(rand.NewPCG(1, 2))
		spoil := func(c fabric.Conn) fabric.Conn {
			bad := &badConn{}
			if f.conn != nil {
				bad = f.conn()
			}
			bad.Conn, bad.caps = c, f.caps
			return bad
		}
		spoiled := func(e fabric.Endpoint) fabric.Endpoint {
			bad := &badEndpoint{Endpoint: e}
			if f.endpoint != nil {
				f.endpoint(bad)
			}
			return bad
		}
		p := &fabrictest.Pair{
			A: spoiled(a), B: spoiled(b),
			NewMemory: func(t testing.TB, _ fabric.Endpoint, size uint64) pmem.Memory { return pmem.Heap(size) },
			Progress:  func() { n.Step(rng) },
			Kill:      func() { n.Crash("B") },
			Patience:  200 * time.Millisecond,
			Connect: func(hello []byte, answer func([]byte) ([]byte, error)) (fabric.Conn, fabric.Conn, []byte, error) {
				b.Listen(answer)
				ca, reply, err := a.Dial(context.Background(), "B", hello)
				if err != nil {
					return nil, nil, nil, err
				}
				cb, err := b.Accept(context.Background(), nil)
				return spoil(ca), spoil(cb), reply, err
			},
		}
		if f.connect != nil {
			p.Connect = f.connect(p.Connect)
		}
		ca, cb := n.Connect("A", "B")
		p.AB, p.BA = spoil(ca), spoil(cb)
		return p
	}
}

// each edits the operations of a batch one by one.
func each(edit func(*fabric.Op)) func() *badConn {
	return func() *badConn {
		return &badConn{batch: func(ops []fabric.Op) []fabric.Op {
			for i := range ops {
				edit(&ops[i])
			}
			return ops
		}}
	}
}

// fixed edits the completions one by one.
func fixed(edit func(*fabric.Completion)) func() *badConn {
	return func() *badConn {
		return &badConn{out: func(in []fabric.Completion) []fabric.Completion {
			for i := range in {
				edit(&in[i])
			}
			return in
		}}
	}
}

// without drops completions.
func without(drop func(fabric.Completion) bool) func() *badConn {
	return func() *badConn {
		return &badConn{out: func(in []fabric.Completion) []fabric.Completion { return slices.DeleteFunc(in, drop) }}
	}
}

// isOne is errors.Is for any of several.
func isOne(err error, of ...error) bool {
	return slices.ContainsFunc(of, func(e error) bool { return errors.Is(err, e) })
}

func TestSuiteCatches(t *testing.T) {
	opts := simfab.Options{QueueDepth: 64, RecvDepth: 16, Relaxed: true, Late: true}
	for _, o := range []simfab.Options{opts, {}} {
		if got := fabrictest.Failures(t, factory(fault{}, o)); len(got) != 0 {
			t.Fatalf("the suite fails a good provider (%+v): %v", o, got)
		}
	}
	noticed := map[string]bool{}
	for _, f := range faults {
		t.Run(f.name, func(t *testing.T) {
			o := opts
			if f.opts != nil {
				f.opts(&o)
			}
			got := fabrictest.Failures(t, factory(f, o), f.caught...)
			for _, name := range f.caught {
				noticed[name] = true
				if _, failed := got[name]; !failed {
					t.Errorf("the check %q did not notice", name)
				}
			}
		})
	}
	for _, name := range fabrictest.Names() {
		if !noticed[name] {
			t.Errorf("no broken provider shows that the check %q can fail", name)
		}
	}
}
