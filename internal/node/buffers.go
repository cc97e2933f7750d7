package node

import "math/bits"

const (
	minBuffer  = 16 << 10 // the smallest buffer that is handed out
	classes    = 16       // powers of two from minBuffer on: up to 512 MiB
	keptBuffer = 32 << 20 // bytes that one reactor keeps unused
)

// buffers is a reactor's stock of read and write buffers. A connection has one only while something is in it: a thousand
// idle clients hold no memory, and the few that are active share what is still warm in the cache.
type buffers struct {
	free [classes][][]byte
	kept int // bytes in free
}

// get returns a buffer of at least n bytes, of full length. Its contents are old.
func (b *buffers) get(n int) []byte {
	class := bits.Len(uint(max(n, minBuffer)-1)) - bits.Len(minBuffer-1)
	if class < classes {
		if stock := b.free[class]; len(stock) > 0 {
			buf := stock[len(stock)-1]
			stock[len(stock)-1] = nil
			b.free[class] = stock[:len(stock)-1]
			b.kept -= cap(buf)
			return buf[:cap(buf)]
		}
		return make([]byte, minBuffer<<class)
	}
	return make([]byte, n)
}

// put takes a buffer back, also one that append has grown meanwhile. Nothing may refer to it any more.
func (b *buffers) put(buf []byte) {
	class := bits.Len(uint(cap(buf))) - bits.Len(minBuffer) // rounded down: get promises a least size
	if class < 0 || class >= classes || b.kept+cap(buf) > keptBuffer {
		return
	}
	b.free[class] = append(b.free[class], buf)
	b.kept += cap(buf)
}
