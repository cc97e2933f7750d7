package timing_test

import (
	"context"
	"testing"

	"whale/fabric"
	"whale/fabric/fabrictest"
	"whale/pmem"
	"whale/timing"
)

// pairs makes pairs of machines with the parameters.
func pairs(p timing.Params) fabrictest.Factory {
	return func(t testing.TB) *fabrictest.Pair {
		m, err := timing.New(p, 1)
		if err != nil {
			t.Fatal(err)
		}
		na, nb := m.Node("A"), m.Node("B")
		a, b := na.Endpoint(), nb.Endpoint()
		pair := &fabrictest.Pair{
			A: a, B: b,
			NewMemory: func(t testing.TB, e fabric.Endpoint, size uint64) pmem.Memory {
				return m.Node(e.Addr()).Memory(pmem.Heap(size))
			},
			Progress: func() { m.Step() },
			Kill:     func() { m.Crash(nb) },
			Connect: func(hello []byte, answer func([]byte) ([]byte, error)) (fabric.Conn, fabric.Conn, []byte, error) {
				nb.Listen(answer)
				ca, reply, err := a.Dial(context.Background(), "B", hello)
				if err != nil {
					return nil, nil, nil, err
				}
				cb, err := b.Accept(context.Background(), nil)
				return ca, cb, reply, err
			},
		}
		pair.AB, pair.BA = m.Connect(na, nb)
		return pair
	}
}

// TestConformance: whatever the time that things take, the interface holds.
func TestConformance(t *testing.T) {
	t.Run("default", func(t *testing.T) { fabrictest.Run(t, pairs(timing.Default())) })
	eadr := timing.Default()
	eadr.Memory.EADR, eadr.Memory.CXL = true, true
	t.Run("eADR and CXL", func(t *testing.T) { fabrictest.Run(t, pairs(eadr)) })
	odd := timing.Default()
	odd.Tail.P99, odd.NIC.CacheEntries, odd.NIC.Inline, odd.Cache.Size, odd.PCIe.Read = 1.6, 16, 64, 8, 1000
	t.Run("slow and uneven", func(t *testing.T) { fabrictest.Run(t, pairs(odd)) })
}
