//go:build linux

package main

import (
	"fmt"
	"os"
	"regexp"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// Three hosts in one machine: a network namespace each, an interface on a common bridge and a soft-RoCE device on that. The
// machine itself is on the bridge, too.
const hosts = 3

func hostName(i int) string    { return fmt.Sprint("host", i) }
func deviceName(i int) string  { return fmt.Sprint("rxe", i) }
func hostAddress(i int) string { return fmt.Sprint("10.77.0.", i+1) }

// daxDevice is for tests of programs; those of the members of a cluster follow.
const daxDevice = "/dev/dax0.0"

func memberDevice(i int) string { return fmt.Sprintf("/dev/dax%d.0", i+1) }

// fsdax is where the file system on persistent memory is mounted.
const fsdax = "/mnt/fsdax"

// domain is what the emulated memory gives: the host says mem-ctrl to QEMU.
const domain = "ADR"

// frame is large enough for soft-RoCE's largest packet, 4096 bytes and headers.
const frame = 4200

// devices makes everything that the other steps use, and looks whether it works.
func devices(s *step) error {
	if err := makeMemory(s); err != nil {
		return err
	}
	if err := makeHosts(s); err != nil {
		return err
	}
	return pingPong(s)
}

func makeMemory(s *step) error {
	last := s.plan.Devices - 1
	for i := range s.plan.Devices {
		mode := "devdax"
		if i == last {
			mode = "fsdax"
		}
		if _, err := s.output("", "ndctl", "create-namespace", "-f", "-e", fmt.Sprintf("namespace%d.0", i), "-m", mode, "-M", "mem"); err != nil {
			return err
		}
	}
	for i := range last {
		if _, err := os.Stat(fmt.Sprintf("/dev/dax%d.0", i)); err != nil {
			return err
		}
	}
	block := fmt.Sprint("/dev/pmem", last)
	if err := s.must("mke2fs -q -F -t ext4 -b 4096 " + block); err != nil {
		return err
	}
	if err := unix.Mount(block, fsdax, "ext4", 0, "dax=always"); err != nil {
		return fmt.Errorf("mount %s -o dax=always: %w", block, err)
	}
	return nil
}

func makeHosts(s *step) error {
	if err := s.must("ip link set lo up", "ip link add lab type bridge", fmt.Sprintf("ip link set lab up mtu %d", frame), "ip addr add 10.77.0.254/24 dev lab"); err != nil {
		return err
	}
	for i := range hosts {
		h := hostName(i)
		err := s.must(
			"ip netns add "+h,
			fmt.Sprintf("ip link add port%d mtu %d type veth peer name eth0 netns %s mtu %[2]d", i, frame, h),
			fmt.Sprintf("ip link set port%d master lab up", i),
			fmt.Sprintf("ip -n %s addr add %s/24 dev eth0", h, hostAddress(i)),
			"ip -n "+h+" link set eth0 up",
			"ip -n "+h+" link set lo up",
			fmt.Sprintf("ip netns exec %s rdma link add %s type rxe netdev eth0", h, deviceName(i)),
		)
		if err != nil {
			return err
		}
	}
	return nil
}

// pingPong sends messages between two hosts with the program of rdma-core, and sees that they crossed the device.
func pingPong(s *step) error {
	before, err := packets(0)
	if err != nil {
		return err
	}
	args := []string{"ibv_rc_pingpong", "-g", "1", "-n", "100", "-d"}
	server, err := s.start(s.command(hostName(0), nil, append(args, deviceName(0))...))
	if err != nil {
		return err
	}
	if err := s.while(server, "ibv_rc_pingpong listens", func() bool { return listens(server.Process.Pid, 18515) }); err != nil {
		return err
	}
	if err := s.finish(s.command(hostName(1), nil, append(args, deviceName(1), hostAddress(0))...)); err != nil {
		return err
	}
	after, err := packets(0)
	if err != nil {
		return err
	}
	if after < before+100 {
		return fmt.Errorf("ibv_rc_pingpong ended well, and %s sent %d packets: expected 100 at least", deviceName(0), after-before)
	}
	s.note("%d packets from host to host", after-before)
	return nil
}

// packets is what the soft-RoCE device i has sent.
func packets(i int) (int, error) {
	path := "/sys/class/infiniband/" + deviceName(i) + "/ports/1/hw_counters/sent_pkts"
	text, err := os.ReadFile(path)
	if err != nil {
		return 0, err
	}
	n, err := strconv.Atoi(strings.TrimSpace(string(text)))
	if err != nil {
		return 0, fmt.Errorf("%s: %w", path, err)
	}
	return n, nil
}

// listens says whether somebody waits for TCP connections at the port, on the host where the process is.
func listens(pid, port int) bool {
	for _, table := range []string{"tcp", "tcp6"} {
		text, err := os.ReadFile(fmt.Sprintf("/proc/%d/net/%s", pid, table))
		if err == nil && regexp.MustCompile(fmt.Sprintf(`:%04X [0-9A-F]+:0000 0A`, port)).Match(text) {
			return true
		}
	}
	return false
}
