//go:build race

package tcp

import "syscall"

// read reads a socket that does not wait. Unlike others, this call tells the race detector that what follows comes after
// the peer's write.
func read(fd int, b []byte) (int, error) { return syscall.Read(fd, b) }
