package pmem

import (
	"runtime"
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"
)

// warmStep is how much is prefaulted at a time: the kernel holds a lock of the whole process meanwhile, which makes others
// that map memory wait.
const warmStep = 256 << 10

// warmth is the work of [File.Warm].
type warmth struct {
	once    sync.Once
	done    sync.WaitGroup
	closing atomic.Bool

	// What has been touched: [from, high) and [0, low). from is set before high.
	from, high, low atomic.Uint64
}

// has says whether all of [off, off+n) was touched.
func (w *warmth) has(off, n uint64) bool {
	high, low := w.high.Load(), w.low.Load()
	from := w.from.Load()
	if low > 0 && low == from {
		from = 0 // the two have met
	}
	return n <= high && off >= from && off <= high-n || n <= low && off <= low-n
}

// Resident says whether the file's pages have no storage below them but memory (tmpfs, or persistent memory). Touching such
// a page ahead of use causes no writing to a disk, and its memory was taken when the file was allocated.
func (f *File) Resident() bool {
	if f.direct {
		return true
	}
	var st unix.Statfs_t
	return unix.Fstatfs(int(f.file.Fd()), &st) == nil && st.Type == unix.TMPFS_MAGIC
}

// Warm prefaults a resident file in the background, from the offset given to the end and then what lies before, so that
// no store or load meets a page for the first time. On another file it does nothing: its pages would all have to be
// written back. Only the first call counts. Close ends it.
func (f *File) Warm(from uint64) {
	if !f.Resident() {
		return
	}
	f.warm.once.Do(func() {
		size := uint64(len(f.mem))
		f.warm.done.Go(func() {
			// Only with what nobody else wants: the thread is the least important one, and ends with the goroutine.
			runtime.LockOSThread()
			unix.Setpriority(unix.PRIO_PROCESS, unix.Gettid(), 19)
			w := &f.warm
			w.from.Store(from)
			for _, part := range [...]struct {
				off, end uint64
				touched  *atomic.Uint64
			}{{from, size, &w.high}, {0, min(from, size), &w.low}} {
				for off := part.off; off < part.end; {
					n := min(warmStep, part.end-off)
					if w.closing.Load() || f.populate(off, n) != nil {
						return // a page that cannot be had is found by whoever needs it
					}
					off += n
					part.touched.Store(off)
				}
			}
		})
	})
}

// cool ends the work of Warm.
func (f *File) cool() {
	f.warm.closing.Store(true)
	f.warm.once.Do(func() {})
	f.warm.done.Wait()
}
