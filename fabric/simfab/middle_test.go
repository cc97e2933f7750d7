package simfab_test

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"testing"

	"whale/fabric"
	"whale/fabric/simfab"
	"whale/pmem"
)

// midway is a network on which A has a Write of 64 bytes to B's memory in the middle, its first 16 bytes landed, and a small
// one behind it.
type midway struct {
	*testing.T
	n      *simfab.Network
	ab, ba fabric.Conn
	key    fabric.Key
	to     *pmem.HeapMemory
	write  simfab.Event
}

func newMidway(t *testing.T) *midway {
	m := &midway{T: t, n: simfab.New(simfab.Options{Late: true, Midway: true}), to: pmem.Heap(4096)}
	from := pmem.Heap(4096)
	for i := range from.Bytes() {
		from.Bytes()[i] = 0xEE
	}
	local, _ := m.n.Endpoint("A").Register(from, 0, 4096, fabric.LocalOnly)
	m.key, _ = m.n.Endpoint("B").Register(m.to, 0, 4096, every)
	m.ab, m.ba = m.n.Connect("A", "B")
	m.ab.Post([]fabric.Op{
		{Kind: fabric.Write, Flags: fabric.Signaled, ID: 1, Local: fabric.Span{Key: local}, Remote: fabric.Addr{Key: m.key}, Len: 64},
		{Kind: fabric.Write8, Flags: fabric.Signaled, ID: 2, Remote: fabric.Addr{Key: m.key, Off: 128}, A: 7},
	})
	m.write = m.n.Pending()[0]
	if err := m.n.DeliverWords(m.write, 0, 2); err != nil {
		t.Fatal(err)
	}
	if err := m.n.Begin(m.write); err != nil {
		t.Fatal(err)
	}
	return m
}

// revoke asks B to withdraw its key.
func (m *midway) revoke(want error) {
	m.Helper()
	for range 3 {
		if err := m.n.Endpoint("B").Revoke(m.key); !errors.Is(err, want) {
			m.Fatalf("Revoke: %v, want %v", err, want)
		}
	}
}

// has says how many bytes of the write are there.
func (m *midway) has(want int) {
	m.Helper()
	if got := bytes.Count(m.to.Bytes(), []byte{0xEE}); got != want {
		m.Fatalf("%d bytes of the write are there, want %d", got, want)
	}
}

func (m *midway) completions(c fabric.Conn, want ...error) {
	m.Helper()
	var done [8]fabric.Completion
	n := c.Poll(done[:])
	if n != len(want) {
		m.Fatalf("completions %+v, want %d", done[:n], len(want))
	}
	for i, err := range want {
		if !errors.Is(done[i].Err, err) {
			m.Fatalf("completion %+v, want %v", done[i], err)
		}
	}
}

func TestRevokeInTheMiddle(t *testing.T) {
	m := newMidway(t)
	m.revoke(fabric.ErrInFlight)
	if err := m.n.Deliver(m.write); err != nil {
		t.Fatal(err)
	}
	m.has(64)
	m.revoke(nil)
	m.n.DeliverAll()
	if m.to.Load64(128) != 0 {
		t.Fatal("what was behind it landed under the revoked key")
	}
	m.completions(m.ab, nil, fabric.ErrAccess)
}

// Another key of the same memory may be given while one waits.
func TestRegisterWhileInTheMiddle(t *testing.T) {
	m := newMidway(t)
	m.revoke(fabric.ErrInFlight)
	fresh, err := m.n.Endpoint("B").Register(m.to, 0, 4096, every)
	if err != nil || fresh == m.key {
		t.Fatalf("Register gave %#x, %v", fresh, err)
	}
	if err := m.n.Endpoint("B").Revoke(fresh); err != nil {
		t.Fatalf("Revoke of a key that nobody has used: %v", err)
	}
}

func TestLostInTheMiddle(t *testing.T) {
	m := newMidway(t)
	m.n.Break("A", "B")
	m.revoke(fabric.ErrInFlight)
	m.completions(m.ab, fabric.ErrBroken, fabric.ErrFlushed)
	if err := m.ba.Close(); !errors.Is(err, fabric.ErrInFlight) {
		t.Fatalf("Close: %v, want ErrInFlight", err)
	}
	m.has(16)
	rng := rand.New(rand.NewPCG(1, 1))
	for m.n.Step(rng) {
	}
	m.has(64)
	m.revoke(nil)
	m.completions(m.ab)
	if m.to.Load64(128) != 0 {
		t.Fatal("what was behind it landed on a lost connection")
	}
}

// What its poster does not end itself, nobody ends: neither a cut nor a closed connection at the other end.
func TestHeldInTheMiddle(t *testing.T) {
	m := newMidway(t)
	m.n.Hold("A", "B")
	if err := m.ba.Close(); !errors.Is(err, fabric.ErrInFlight) {
		t.Fatalf("Close: %v, want ErrInFlight", err)
	}
	m.n.DeliverAll()
	m.has(64)
	m.revoke(nil)
}

func TestEndedInTheMiddle(t *testing.T) {
	for name, end := range map[string]func(m *midway){
		"the poster closes":                      func(m *midway) { m.ab.Close() },
		"the poster ends":                        func(m *midway) { m.n.Crash("A") },
		"the poster ends, the connection is old": func(m *midway) { m.n.Break("A", "B"); m.ab.Close(); m.n.Crash("A") },
	} {
		t.Run(name, func(t *testing.T) {
			m := newMidway(t)
			m.revoke(fabric.ErrInFlight)
			end(m)
			m.revoke(nil)
			m.n.DeliverAll()
			m.has(16)
			if err := m.ba.Close(); err != nil {
				t.Fatalf("Close: %v", err)
			}
		})
	}
	m := newMidway(t)
	m.n.Break("A", "B")
	m.n.Crash("A") // which has polled nothing
	m.revoke(nil)
	m = newMidway(t)
	m.n.Crash("B")
	m.n.DeliverAll()
	m.has(16)
	if m.n.InTheMiddle("B") != 0 {
		t.Fatal("an operation is in the middle at an endpoint that is gone")
	}
}

func TestBeginRefuses(t *testing.T) {
	m := newMidway(t)
	if m.n.Begin(m.write) == nil {
		t.Error("the same operation twice")
	}
	m.n.Deliver(m.write)
	if m.n.Begin(m.write) == nil {
		t.Error("an operation that has landed")
	}
	m.revoke(nil)
	if m.n.Begin(m.n.Pending()[0]) == nil {
		t.Error("an operation under a revoked key")
	}
}

// Where keys are withdrawn in the background, the first answers may be ErrInFlight although nothing is under way.
func TestRevokeLater(t *testing.T) {
	left := 2
	n := simfab.New(simfab.Options{Later: func() bool { left--; return left >= 0 }})
	mem := pmem.Heap(64)
	key, _ := n.Endpoint("B").Register(mem, 0, 64, every)
	ab, _ := n.Connect("A", "B")
	for i := range 4 {
		if err := n.Endpoint("B").Revoke(key); (i < 2) != errors.Is(err, fabric.ErrInFlight) {
			t.Fatalf("call %d of Revoke: %v", i+1, err)
		}
		ab.Post([]fabric.Op{{Kind: fabric.Write8, Remote: fabric.Addr{Key: key}, A: 1}})
		n.DeliverAll()
	}
	if mem.Load64(0) != 0 {
		t.Fatal("a write landed under a key that is being withdrawn")
	}
}

// Nor does it matter to who posts that its own process or its peer's ends there.
func TestCrashWhilePosting(t *testing.T) {
	for _, who := range []string{"A", "B"} {
		for _, late := range []bool{false, true} {
			var n *simfab.Network
			n = simfab.New(simfab.Options{Late: late, OnPost: func(e simfab.Event) {
				if e.OpID == 2 {
					n.Crash(who)
				}
			}})
			from, to := pmem.Heap(64), pmem.Heap(64)
			from.Bytes()[0] = 1
			local, _ := n.Endpoint("A").Register(from, 0, 64, fabric.LocalOnly)
			key, _ := n.Endpoint("B").Register(to, 0, 64, every)
			ab, _ := n.Connect("A", "B")
			var ops []fabric.Op
			for id := range uint64(4) {
				ops = append(ops, fabric.Op{Kind: fabric.Write, Flags: fabric.Signaled, ID: id + 1, Local: fabric.Span{Key: local}, Remote: fabric.Addr{Key: key}, Len: 64})
			}
			if taken := ab.Post(ops); taken != len(ops) {
				t.Fatalf("%s ends: %d operations were taken", who, taken)
			}
			n.DeliverAll()
			var done [8]fabric.Completion
			count := ab.Poll(done[:])
			if to.Bytes()[0] != 0 || len(n.Pending()) != 0 || count != len(ops) || done[3].Err == nil {
				t.Errorf("%s ends, late %v: landed %d, %d wait, completions %+v", who, late, to.Bytes()[0], len(n.Pending()), done[:count])
			}
		}
	}
}

// A driver may end a process, or lose a connection, while it hears of what lands: nothing of that lands then.
func TestCrashWhileLanding(t *testing.T) {
	for name, end := range map[string]func(*simfab.Network){
		"the target ends":        func(n *simfab.Network) { n.Crash("B") },
		"the poster ends":        func(n *simfab.Network) { n.Crash("A") },
		"the connection is lost": func(n *simfab.Network) { n.Break("A", "B") },
	} {
		for _, words := range []bool{false, true} {
			var n *simfab.Network
			n = simfab.New(simfab.Options{OnLand: func(simfab.Event) { end(n) }})
			from, to := pmem.Heap(64), pmem.Heap(64)
			from.Bytes()[0] = 1
			local, _ := n.Endpoint("A").Register(from, 0, 64, fabric.LocalOnly)
			key, _ := n.Endpoint("B").Register(to, 0, 64, every)
			ab, _ := n.Connect("A", "B")
			ab.Post([]fabric.Op{{Kind: fabric.Write, Local: fabric.Span{Key: local}, Remote: fabric.Addr{Key: key}, Len: 64}})
			if words {
				n.DeliverWords(n.Pending()[0], 0, 1)
			} else {
				n.DeliverAll()
			}
			if to.Bytes()[0] != 0 || len(n.Pending()) != 0 {
				t.Errorf("%s: it landed, or still waits", name)
			}
		}
	}
}
