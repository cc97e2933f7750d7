package shm

import (
	"errors"
	"fmt"
	"io"
	"os"

	"golang.org/x/sys/unix"

	"whale/pmem"
)

// watch begins to look out for the end of the peer: of its connection by the socket, of its process by a pidfd, for a
// process that ends may have given the socket to another. Both wait in Go's poller and hold no thread.
func (c *conn) watch() error {
	fd, err := c.who.open()
	if err != nil {
		return fmt.Errorf("pidfd of %v: %w", c.who, err)
	}
	c.pidfd = os.NewFile(uintptr(fd), "pidfd")
	raw, err := c.pidfd.SyscallConn()
	if err != nil {
		return err
	}
	c.ep.tasks.Add(2)
	go func() {
		defer c.ep.tasks.Done()
		n, err := c.sock.Read(make([]byte, 1))
		switch {
		case n > 0:
			c.lose(fmt.Sprintf("%v at %s breaks the protocol", c.who, c.peer.dir))
		case errors.Is(err, io.EOF), errors.Is(err, unix.ECONNRESET):
			c.lose(fmt.Sprintf("%v at %s ended, or closed the connection", c.who, c.peer.dir))
		default:
			c.lose(err.Error())
		}
	}()
	go func() {
		defer c.ep.tasks.Done()
		if raw.Read(func(fd uintptr) bool { return readable(int(fd)) }) == nil {
			c.lose(fmt.Sprintf("%v at %s ended", c.who, c.peer.dir))
		}
	}()
	return nil
}

// lose marks the connection lost and wakes the owner of the endpoint, who is to poll it.
func (c *conn) lose(why string) {
	if c.broken.CompareAndSwap(nil, &why) {
		pmem.Guard(c.ep.bell.ring)
	}
}
