package simfab_test

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"whale/fabric"
	"whale/fabric/simfab"
	"whale/pmem"
)

// stream is a connection over which one word after the other is written to lines of their own, word i of the value i+1.
type stream struct {
	net    *simfab.Network
	conn   fabric.Conn
	remote *pmem.Simulated
	key    fabric.Key
}

func newStream(t *testing.T, seed uint64) *stream {
	s := &stream{net: simfab.New(simfab.Options{Relaxed: true, Late: seed%2 == 0}), remote: pmem.Simulate(64*words, pmem.ADR, seed)}
	s.conn, _ = s.net.Connect("A", "B")
	key, err := s.net.Endpoint("B").Register(s.remote, 0, 64*words, fabric.RemoteWrite|fabric.RemoteFlush|fabric.RemoteRead)
	if err != nil {
		t.Fatal(err)
	}
	s.key = key
	return s
}

const words = 8

// lost says which of the words [0, n) a loss of power at this moment would leave without their value.
func (s *stream) lost(m *pmem.Simulated, n uint64) (lost []uint64) {
	for i := range n {
		if m.Load64(64*i) != i+1 {
			lost = append(lost, i)
		}
	}
	return lost
}

// kept says which of the words from n on a loss of power would leave with their value.
func (s *stream) kept(m *pmem.Simulated, n uint64) (kept []uint64) {
	for i := n; i < words; i++ {
		if m.Load64(64*i) != 0 {
			kept = append(kept, i)
		}
	}
	return kept
}

// TestPersistence: at every moment of a random run, what a loss of power leaves of writes keeps the order that the
// primitive promises, and a completion that promises durability is true. The broken variants leave something out.
func TestPersistence(t *testing.T) {
	half := uint64(words / 2)
	for _, c := range []struct {
		name string
		op   func(s *stream, local fabric.Key, i uint64) []fabric.Op // word i
		end  fabric.Op
		// each: every word is ordered behind the one before it; else only the second half behind the first.
		each bool
		bad  string // what a broken variant is found by
	}{
		{name: "non-temporal, then a Read", each: true, end: fabric.Op{Kind: fabric.Read, Len: 8},
			op: func(s *stream, local fabric.Key, i uint64) []fabric.Op {
				return []fabric.Op{s.write(local, i, fabric.NonTemporal)}
			}},
		{name: "non-temporal words, then a durable Fence", each: true, end: fabric.Op{Kind: fabric.Fence, A: fabric.Durable},
			op: func(s *stream, _ fabric.Key, i uint64) []fabric.Op {
				return []fabric.Op{{Kind: fabric.Write8, Flags: fabric.NonTemporal, Remote: fabric.Addr{Key: s.key, Off: 64 * i}, A: i + 1}}
			}},
		{name: "written through, a durable Fence between", end: fabric.Op{Kind: fabric.Fence, A: fabric.Durable},
			op: func(s *stream, local fabric.Key, i uint64) []fabric.Op {
				ops := []fabric.Op{s.write(local, i, fabric.WriteThrough)}
				if i == half-1 {
					ops = append(ops, fabric.Op{Kind: fabric.Fence, A: fabric.Durable})
				}
				return ops
			}},
		{name: "plain, then a Flush", each: false, end: fabric.Op{Kind: fabric.Flush, A: fabric.Durable, B: fabric.Region}, bad: "order",
			op: func(s *stream, local fabric.Key, i uint64) []fabric.Op { return []fabric.Op{s.write(local, i, 0)} }},
		{name: "plain, then a Read", end: fabric.Op{Kind: fabric.Read, Len: 8}, bad: "durable",
			op: func(s *stream, local fabric.Key, i uint64) []fabric.Op { return []fabric.Op{s.write(local, i, 0)} }},
		{name: "written through, a visible Fence between", end: fabric.Op{Kind: fabric.Fence, A: fabric.Durable}, bad: "order",
			op: func(s *stream, local fabric.Key, i uint64) []fabric.Op {
				ops := []fabric.Op{s.write(local, i, fabric.WriteThrough)}
				if i == half-1 {
					ops = append(ops, fabric.Op{Kind: fabric.Fence})
				}
				return ops
			}},
		{name: "written through, without an end", end: fabric.Op{Kind: fabric.Flush, A: fabric.Visible, B: fabric.Region}, bad: "durable",
			op: func(s *stream, local fabric.Key, i uint64) []fabric.Op {
				return []fabric.Op{s.write(local, i, fabric.WriteThrough)}
			}},
	} {
		t.Run(c.name, func(t *testing.T) {
			found := map[string]int{}
			for seed := range uint64(200) {
				s := newStream(t, seed)
				local := pmem.Heap(64*words + 64)
				key, _ := s.net.Endpoint("A").Register(local, 0, 64*words+64, fabric.LocalOnly)
				rng := rand.New(rand.NewPCG(seed, 1))
				for i := range uint64(words) {
					local.Store64(64*i, i+1)
					s.conn.Post(c.op(s, key, i))
				}
				end := c.end
				end.Flags, end.Local, end.Remote = fabric.Signaled, fabric.Span{Key: key, Off: 64 * words}, fabric.Addr{Key: s.key}
				s.conn.Post([]fabric.Op{end})
				var done [1]fabric.Completion
				for ended := false; !ended; {
					s.net.Step(rng)
					if s.conn.Poll(done[:]) == 1 {
						if done[0].Err != nil {
							t.Fatal(done[0].Err)
						}
						ended = true
					}
					for _, m := range []*pmem.Simulated{s.remote.Crash(rng), s.remote.CrashDurable()} {
						for i := range uint64(words) {
							if (c.each || i == half) && len(s.kept(m, i)) > 0 && len(s.lost(m, i)) > 0 {
								found["order"]++
							}
						}
						if ended && len(s.lost(m, words)) > 0 {
							found["durable"]++
						}
					}
				}
			}
			switch {
			case c.bad == "" && len(found) > 0:
				t.Errorf("broken by losses of power: %v", found)
			case c.bad != "" && found[c.bad] == 0:
				t.Errorf("no loss of power shows that it breaks %s: %v", c.bad, found)
			}
		})
	}
}

func (s *stream) write(local fabric.Key, i uint64, f fabric.Flags) fabric.Op {
	return fabric.Op{Kind: fabric.Write, Flags: f, Local: fabric.Span{Key: local, Off: 64 * i}, Remote: fabric.Addr{Key: s.key, Off: 64 * i}, Len: 8}
}

// TestCachesInTheWay: where incoming writes go to the caches, a non-temporal one is refused.
func TestCachesInTheWay(t *testing.T) {
	n := simfab.New(simfab.Options{DDIO: true, Auto: true})
	c, _ := n.Connect("A", "B")
	if c.Caps().NonTemporal {
		t.Error("the capabilities promise non-temporal writes")
	}
	key, _ := n.Endpoint("B").Register(pmem.Heap(64), 0, 64, fabric.RemoteWrite)
	c.Post([]fabric.Op{{Kind: fabric.Write8, Flags: fabric.NonTemporal, Remote: fabric.Addr{Key: key}, A: 1}})
	var done [1]fabric.Completion
	if c.Poll(done[:]) != 1 || !strings.Contains(fmt.Sprint(done[0].Err), fabric.ErrUnsupported.Error()) {
		t.Errorf("a non-temporal write ended with %v", done[0])
	}
}
