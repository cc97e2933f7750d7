package shm

import (
	"sync"

	"golang.org/x/sys/unix"

	"whale/fabric/internal/words"
)

// Every call of Post and Poll sets inside before it looks at what may have been withdrawn; who withdraws does it the other way
// round. A full fence is needed in between on both sides, or on one side a barrier that the kernel makes all threads of the process
// pass (membarrier(2), since Linux 4.14): then the calls, of which there are millions, need none.

// Of linux/membarrier.h.
const (
	privateExpedited  = 1 << 3
	registerExpedited = 1 << 4
)

// barriers says whether there is such a barrier; asking registers the process for it.
var barriers = sync.OnceValue(func() bool {
	_, _, err := unix.Syscall(unix.SYS_MEMBARRIER, registerExpedited, 0, 0)
	return err == 0
})

// barrier is a full fence of every thread of this process.
func barrier() {
	if !barriers() {
		return // then begin has one
	}
	if _, _, err := unix.Syscall(unix.SYS_MEMBARRIER, privateExpedited, 0, 0); err != 0 {
		panic("shm: membarrier: " + err.Error()) // it is registered, so there is no reason left (membarrier(2))
	}
}

// begin makes inside odd: from here on a mapping may be touched.
func (c *conn) begin() {
	if c.fenceless {
		words.StoreRelease(&c.inside, c.inside.Load()+1)
	} else {
		c.inside.Add(1)
	}
}

// end makes it even.
func (c *conn) end() { words.StoreRelease(&c.inside, c.inside.Load()+1) }
