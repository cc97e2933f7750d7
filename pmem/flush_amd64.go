package pmem

import (
	"errors"
	"unsafe"
)

// The instructions that carry a line from the caches to the memory controller. Sources: Intel SDM vol. 2 (CLWB,
// CLFLUSHOPT, CLFLUSH, SFENCE, MOVNTDQ, CPUID).

func cpuid(leaf, subleaf uint32) (eax, ebx, ecx, edx uint32)

//go:noescape
func clwb(p *byte, n int)

//go:noescape
func clflushopt(p *byte, n int)

//go:noescape
func clflush(p *byte, n int)

//go:noescape
func copyLinesNT(dst, src *byte, lines int)

// sfence waits for flushes and non-temporal stores: nothing that is stored later is seen before them.
func sfence()

// flusher is the way a line takes out of the caches.
type flusher uint8

const (
	noFlush      flusher = iota
	byCLWB               // writes back and keeps the line
	byCLFLUSHOPT         // writes back and drops it
	byCLFLUSH            // as before, and one line waits for another
)

var flusherNames = [...]string{"none", "CLWB", "CLFLUSHOPT", "CLFLUSH"}

func (f flusher) String() string { return flusherNames[f] }

// flushers are those that this processor has, the best first.
func flushers() (has []flusher) {
	last, _, _, _ := cpuid(0, 0)
	if last >= 7 {
		_, ebx, _, _ := cpuid(7, 0)
		if ebx&(1<<24) != 0 {
			has = append(has, byCLWB)
		}
		if ebx&(1<<23) != 0 {
			has = append(has, byCLFLUSHOPT)
		}
	}
	if _, _, _, edx := cpuid(1, 0); edx&(1<<19) != 0 {
		has = append(has, byCLFLUSH)
	}
	return has
}

// flusherFor is what Persist and CopyNT do in domain d.
func flusherFor(d Domain) (flusher, error) {
	if d != ADR {
		return noFlush, nil
	}
	if has := flushers(); len(has) > 0 {
		return has[0], nil
	}
	return noFlush, errors.New("domain ADR needs CLWB, CLFLUSHOPT or CLFLUSH, and this processor has none of them: use FileShared")
}

// flush starts the write-back of every line that b touches.
func flush(f flusher, b []byte) {
	if len(b) == 0 {
		return
	}
	switch p := unsafe.SliceData(b); f {
	case byCLWB:
		clwb(p, len(b))
	case byCLFLUSHOPT:
		clflushopt(p, len(b))
	case byCLFLUSH:
		clflush(p, len(b))
	}
}

// copyFlushed copies src to dst, of the same length, so that a fence makes it durable. Whole lines go past the cache; the
// lines at both ends, of which only a part is written, go through it, because part of a line would have to be merged
// at the memory.
func copyFlushed(f flusher, dst, src []byte) {
	if len(src) < WorthNT {
		copy(dst, src)
		flush(f, dst)
		return
	}
	head := int(-uintptr(unsafe.Pointer(unsafe.SliceData(dst))) % lineSize)
	lines := (len(src) - head) / lineSize
	if lines <= 0 {
		copy(dst, src)
		flush(f, dst)
		return
	}
	if head > 0 {
		copy(dst[:head], src)
		flush(f, dst[:head])
	}
	dst, src = dst[head:], src[head:]
	copyLinesNT(unsafe.SliceData(dst), unsafe.SliceData(src), lines)
	if dst, src = dst[lines*lineSize:], src[lines*lineSize:]; len(src) > 0 {
		copy(dst, src)
		flush(f, dst)
	}
}
