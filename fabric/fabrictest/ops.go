package fabrictest

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math/rand/v2"

	"whale/fabric"
)

func write(id uint64, from *area, fromOff uint64, to *area, toOff, n uint64, f fabric.Flags) fabric.Op {
	return fabric.Op{Kind: fabric.Write, Flags: f, ID: id, Local: from.span(fromOff), Remote: to.addr(toOff), Len: n}
}

func read(id uint64, into *area, intoOff uint64, from *area, fromOff, n uint64, f fabric.Flags) fabric.Op {
	return fabric.Op{Kind: fabric.Read, Flags: f, ID: id, Local: into.span(intoOff), Remote: from.addr(fromOff), Len: n}
}

// Len means nothing to Write8 and the atomics: some of these leave it zero.
func write8(id uint64, to *area, off, v uint64, f fabric.Flags) fabric.Op {
	return fabric.Op{Kind: fabric.Write8, Flags: f, ID: id, Remote: to.addr(off), Len: 8, A: v}
}

func compareSwap(id uint64, to *area, off, old, new uint64, f fabric.Flags) fabric.Op {
	return fabric.Op{Kind: fabric.CompareSwap, Flags: f, ID: id, Remote: to.addr(off), A: old, B: new}
}

func fetchAdd(id uint64, to *area, off, v uint64, f fabric.Flags) fabric.Op {
	return fabric.Op{Kind: fabric.FetchAdd, Flags: f, ID: id, Remote: to.addr(off), Len: 8, A: v}
}

func flush(id uint64, at *area, placement, selectivity uint64, f fabric.Flags) fabric.Op {
	return fabric.Op{Kind: fabric.Flush, Flags: f, ID: id, Remote: at.addr(0), Len: at.size, A: placement, B: selectivity}
}

func fence(id uint64, f fabric.Flags) fabric.Op {
	return fabric.Op{Kind: fabric.Fence, Flags: f, ID: id}
}

func send(id uint64, from *area, off, n uint64, f fabric.Flags) fabric.Op {
	return fabric.Op{Kind: fabric.Send, Flags: f, ID: id, Local: from.span(off), Len: n}
}

func recv(id uint64, into *area, off, n uint64) fabric.Op {
	return fabric.Op{Kind: fabric.Recv, ID: id, Local: into.span(off), Len: n}
}

func kindName(k fabric.Kind) string {
	names := []string{"kind 0", "Write", "Read", "Write8", "CompareSwap", "FetchAdd", "Flush", "Fence", "Send", "Recv"}
	if int(k) < len(names) {
		return names[k]
	}
	return fmt.Sprintf("kind %d", k)
}

// pattern fills b with bytes that depend on the seed and the place, none of them alike over any short distance.
func pattern(seed uint64, b []byte) {
	x := seed*0x9E3779B97F4A7C15 + 1
	var word [8]byte
	for len(b) > 0 {
		x ^= x << 13
		x ^= x >> 7
		x ^= x << 17
		binary.LittleEndian.PutUint64(word[:], x*0x9E3779B97F4A7C15)
		b = b[copy(b, word[:]):]
	}
}

// firstDiff is the first place where the two differ, or -1.
func firstDiff(a, b []byte) int {
	if len(a) <= len(b) && bytes.Equal(a, b[:len(a)]) {
		return -1
	}
	for i := range a {
		if a[i] != b[i] {
			return i
		}
	}
	return -1
}

func newRand(seed uint64) *rand.Rand { return rand.New(rand.NewPCG(seed, 0x7768616c65)) }
