package tcp

import (
	"bytes"
	"math/rand/v2"
	"testing"

	"whale/fabric"
)

// TestBulk: more than sockets and buffers hold, in pieces of every size, there, back, and there again from where a Read
// has just put it.
func TestBulk(t *testing.T) {
	const half = 8 << 20
	for name, o := range map[string]Options{"plain": {}, "TLS": {TLS: certificate(t)}} {
		t.Run(name, func(t *testing.T) {
			w := wire(t, 2*half, o)
			rng := rand.NewChaCha8([32]byte{1})
			from, to := w.from.Bytes(), w.to.Bytes()
			rng.Read(from[:half])
			want := bytes.Clone(from[:half])
			done := make([]fabric.Completion, 8)
			pieces := func(op func(off, n uint64) fabric.Op) (ops []fabric.Op) {
				for off := uint64(0); off < half; {
					n := min(1+rng.Uint64()%(1<<(rng.Uint64()%19)), half-off)
					ops = append(ops, op(off, n))
					off += n
				}
				return append(ops, last(fabric.Op{Kind: fabric.Flush, Remote: fabric.Addr{Key: w.remote}, A: fabric.Visible, B: fabric.Region}))
			}
			w.exchange(t, pieces(func(off, n uint64) fabric.Op { return w.write(off, n, 0) }), done)
			if !bytes.Equal(to[:half], want) {
				t.Fatal("the Writes arrived otherwise")
			}
			clear(from)
			w.exchange(t, pieces(func(off, n uint64) fabric.Op {
				return fabric.Op{Kind: fabric.Read, Local: fabric.Span{Key: w.local, Off: off}, Remote: fabric.Addr{Key: w.remote, Off: off}, Len: n}
			}), done)
			if !bytes.Equal(from[:half], want) {
				t.Fatal("the Reads brought something else")
			}
			clear(from)
			w.exchange(t, []fabric.Op{
				{Kind: fabric.Read, Local: fabric.Span{Key: w.local}, Remote: fabric.Addr{Key: w.remote}, Len: half},
				last(fabric.Op{Kind: fabric.Write, Flags: fabric.Fenced, Local: fabric.Span{Key: w.local}, Remote: fabric.Addr{Key: w.remote, Off: half}, Len: half}),
			}, done)
			if !bytes.Equal(to[half:], want) {
				t.Fatal("a Fenced Write did not wait for the Read before it")
			}
		})
	}
}
