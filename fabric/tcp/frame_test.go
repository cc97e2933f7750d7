package tcp

import (
	"bytes"
	"encoding/binary"
	"errors"
	"hash/crc32"
	"io"
	"net"
	"testing"
	"time"

	"whale/fabric"
	"whale/pmem"
)

func TestHeaders(t *testing.T) {
	var b [requestSize]byte
	for _, want := range []request{
		{kind: fabric.Write, n: 7, key: 1 << 60, off: 1 << 50, a: 100, seq: 1<<32 - 1, flags: flagNotify | flagThrough},
		{kind: fabric.CompareSwap, key: 3, off: 8, a: 1 << 63, b: 1<<64 - 1, flags: flagAck},
		{kind: fabric.Flush, a: 1, flags: flagDurable | flagRegion},
		{kind: fabric.Send, n: maxPayload},
	} {
		want.encode(b[:])
		var got request
		if err := got.decode(b[:]); err != nil || got != want {
			t.Errorf("%+v came back as %+v, %v", want, got, err)
		}
		for bit := range 8 * len(b) { // the checksum finds every flipped bit
			b[bit/8] ^= 1 << (bit % 8)
			if got.decode(b[:]) == nil {
				t.Fatalf("bit %d flipped, and nobody noticed", bit)
			}
			b[bit/8] ^= 1 << (bit % 8)
		}
	}
	for _, want := range []reply{
		{kind: replyAck, seq: 9}, {kind: replyValue, value: 1 << 63}, {kind: replyData, n: maxPayload, value: 5}, {kind: replyFail, code: 200, n: maxText},
	} {
		want.encode(b[:])
		var got reply
		if err := got.decode(b[:replySize]); err != nil || got != want {
			t.Errorf("%+v came back as %+v, %v", want, got, err)
		}
	}
}

func TestHeadersThatMakeNoSense(t *testing.T) {
	var b [requestSize]byte
	for _, q := range []request{
		{kind: 0}, {kind: fabric.Recv}, {kind: 255}, {kind: fabric.Fence, flags: 1 << 7}, {kind: fabric.Write, n: maxPayload + 1, a: 1 << 40},
		{kind: fabric.Write, n: 9, a: 8}, {kind: fabric.Write, n: 0, a: 8}, {kind: fabric.Read, n: 1}, {kind: fabric.Send, n: 1 << 31},
	} {
		q.encode(b[:])
		if err := new(request).decode(b[:]); !errors.Is(err, errFrame) {
			t.Errorf("%+v: %v", q, err)
		}
	}
	for _, p := range []reply{{kind: 0}, {kind: 9}, {kind: replyAck, n: 1}, {kind: replyData, n: maxPayload + 1}, {kind: replyFail, n: maxText + 1}} {
		p.encode(b[:])
		if err := new(reply).decode(b[:replySize]); !errors.Is(err, errFrame) {
			t.Errorf("%+v: %v", p, err)
		}
	}
}

// played is a socket from which comes what a test says, and which takes everything.
type played struct {
	net.Conn
	io.Reader
	wrote int
}

func (p *played) Read(b []byte) (int, error)      { return p.Reader.Read(b) }
func (p *played) Write(b []byte) (int, error)     { p.wrote += len(b); return len(b), nil }
func (p *played) SetDeadline(time.Time) error     { return nil }
func (p *played) SetReadDeadline(time.Time) error { return nil }

// repair makes frames of what the fuzzer wrote: of each header of size bytes the checksum, and where the first byte of
// the frame is even, so that both are tried, its seq.
func repair(b []byte, size, seqAt, crcAt int, payload func(h []byte) int) {
	for seq := uint32(0); len(b) >= size; seq++ {
		if h := b[:size]; h[3] == 0 {
			binary.LittleEndian.PutUint32(h[seqAt:], seq)
		}
		b[2], b[3] = 0, 0
		binary.LittleEndian.PutUint32(b[crcAt:], crc32.Checksum(b[:crcAt], castagnoli))
		b = b[min(len(b), size+payload(b)):]
	}
}

// FuzzTarget: whatever a peer sends, the target comes to an end, touches no byte outside the registration, and keeps to
// its memory.
func FuzzTarget(f *testing.F) {
	seed := func(qs ...request) {
		var b []byte
		for _, q := range qs {
			b = append(b, make([]byte, requestSize)...)
			q.encode(b[len(b)-requestSize:])
			b = append(b, make([]byte, q.n)...)
		}
		f.Add(b)
	}
	seed(request{kind: fabric.Write, n: 8, a: 8, off: 8, flags: flagAck | flagNotify}, request{kind: fabric.Read, a: 64}, request{kind: fabric.Flush, flags: flagDurable | flagRegion})
	seed(request{kind: fabric.FetchAdd, off: 16, a: 1}, request{kind: fabric.CompareSwap, off: 56, a: 1, b: 2}, request{kind: fabric.Write8, off: 64, a: 1})
	seed(request{kind: fabric.Send, n: 16}, request{kind: fabric.Send, n: 40}, request{kind: fabric.Fence})
	seed(request{kind: fabric.Write, n: 60, a: 64}, request{kind: fabric.Write, n: 4, a: 4, off: 60}, request{kind: fabric.Read, off: 1<<64 - 8, a: 16})
	e := open(f, Options{})
	m := pmem.HeapOf(192, pmem.FileShared)
	key, err := e.Register(m, 64, 64, allRights)
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		repair(b, requestSize, 40, 44, func(h []byte) int { return int(binary.LittleEndian.Uint32(h[4:])) & 0xffff })
		for at := 0; at+requestSize <= len(b); at += requestSize { // fuzzers do not guess keys
			if b[at+8] == 0 {
				binary.LittleEndian.PutUint64(b[at+8:], uint64(key))
				binary.LittleEndian.PutUint32(b[at+44:], crc32.Checksum(b[at:at+44], castagnoli))
			}
		}
		c := &conn{ep: e, quit: make(chan struct{})}
		close(c.quit)
		c.receives.post(&fabric.Op{Kind: fabric.Recv, Local: fabric.Span{Key: key}, Len: 32})
		tg := newTarget(c, socket{Conn: &played{Reader: bytes.NewReader(b)}})
		if err := tg.run(); err == nil {
			t.Fatal("no end")
		}
		for i, v := range m.Bytes() {
			if v != 0 && (i < 64 || i >= 128) {
				t.Fatalf("byte %d, outside the registration, is %d", i, v)
			}
		}
		clear(m.Bytes())
		if cap(tg.out) != outSize+replySize || len(tg.in.buf) != streamSize {
			t.Fatal("the buffers have grown")
		}
		if r := e.registrations[key&keyMask].Load(); r.users.Load() != 0 {
			t.Fatal("the memory is still held")
		}
	})
}

// FuzzReplies: whatever a target answers, each posted operation ends once, and no byte changes but those of the Read.
func FuzzReplies(f *testing.F) {
	seed := func(ps ...reply) {
		var b []byte
		for _, p := range ps {
			b = append(b, make([]byte, replySize)...)
			p.encode(b[len(b)-replySize:])
			b = append(b, make([]byte, padded(p.n))...)
		}
		f.Add(b)
	}
	seed(reply{kind: replyAck, seq: 0}, reply{kind: replyData, n: 16, seq: 1}, reply{kind: replyData, n: 16, value: 16, seq: 1}, reply{kind: replyValue, seq: 2})
	seed(reply{kind: replyFail, seq: 0, code: 1, n: 5})
	seed(reply{kind: replyAck, seq: 2}, reply{kind: replyAck, seq: 3})
	seed(reply{kind: replyData, n: 16, seq: 1}, reply{kind: replyAck, seq: 2})
	e := open(f, Options{})
	m := pmem.Heap(192)
	key, err := e.Register(m, 64, 64, fabric.LocalOnly)
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		repair(b, replySize, 16, 20, func(h []byte) int { return padded(binary.LittleEndian.Uint32(h[4:])) & 0xffff })
		for i := range m.Bytes() {
			m.Bytes()[i] = 1
		}
		c := &conn{ep: e, ring: make([]pending, queueDepth), quit: make(chan struct{})}
		c.closing.Store(true) // nothing is sent; that it was is said below
		c.end.Do(func() {})
		c.Post([]fabric.Op{
			{Kind: fabric.Write, ID: 0}, {Kind: fabric.Read, ID: 1, Flags: fabric.Signaled, Local: fabric.Span{Key: key, Off: 8}, Len: 32},
			{Kind: fabric.FetchAdd, ID: 2, Flags: fabric.Signaled}, {Kind: fabric.Fence, ID: 3, Flags: fabric.Signaled},
		})
		c.encoded = 4
		c.sent.Store(4)
		c.out = &outlet{fd: -1, late: make(chan struct{})}
		c.out.hurry()
		c.hearing.in = stream{from: &played{Reader: bytes.NewReader(b)}, buf: make([]byte, streamSize)}
		c.ended(c.listen())
		c.gone.Store(true)
		var done [8]fabric.Completion
		n := c.Poll(done[:])
		if n < 3 || n > 4 || c.reported != 4 || c.acked.Load() > 4 {
			t.Fatalf("%d completions, %d operations acknowledged, %d reported", n, c.acked.Load(), c.reported)
		}
		for i, v := range m.Bytes() {
			if v != 1 && (i < 72 || i >= 104) {
				t.Fatalf("byte %d, which is not that of the Read, is %d", i, v)
			}
		}
	})
}
