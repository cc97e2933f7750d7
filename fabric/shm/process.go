package shm

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// process is one process, not merely a number that the system will give to another.
type process struct {
	pid   int
	start uint64 // clock ticks since boot
}

func (p process) String() string { return fmt.Sprintf("process %d", p.pid) }

// processOf is the process that has the number pid now.
func processOf(pid int) (process, error) {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return process{}, fmt.Errorf("shm: %w", err)
	}
	start, err := parseStart(stat)
	if err != nil {
		return process{}, fmt.Errorf("shm: /proc/%d/stat: %w", pid, err)
	}
	return process{pid, start}, nil
}

// parseStart is field 22 of /proc/PID/stat (proc(5)). Field 2, the name, may hold anything, parentheses included.
func parseStart(stat []byte) (uint64, error) {
	end := bytes.LastIndexByte(stat, ')')
	if end < 0 {
		return 0, errors.New("no name in it")
	}
	fields := strings.Fields(string(stat[end+1:])) // from field 3 on
	if len(fields) < 20 {
		return 0, errors.New("no start time in it")
	}
	return strconv.ParseUint(fields[19], 10, 64)
}

// open is a pidfd of p: readable once the last thread of p is gone. An error is unix.ESRCH when p is gone already.
func (p process) open() (int, error) {
	if p.pid <= 0 {
		return -1, unix.ESRCH
	}
	fd, err := unix.PidfdOpen(p.pid, unix.PIDFD_NONBLOCK)
	if err != nil {
		return -1, err
	}
	// The number may have been given to another process before it was opened, but not since.
	if now, err := processOf(p.pid); err != nil || now != p {
		unix.Close(fd)
		return -1, unix.ESRCH
	}
	return fd, nil
}

// exited says that no thread of p runs any more. In doubt it is false.
func (p process) exited() bool {
	fd, err := p.open()
	if err != nil {
		return err == unix.ESRCH
	}
	defer unix.Close(fd)
	return readable(fd)
}

// readable polls fd without waiting.
func readable(fd int) bool {
	for {
		n, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, 0)
		if err != unix.EINTR {
			return err == nil && n == 1
		}
	}
}
