//go:build linux

package main

import (
	"fmt"
	"strings"
)

// onMemory makes a test's temporary files files of the file system on persistent memory. An emulated machine may take its
// time, the more so on a host that is busy.
func onMemory(env ...string) []string {
	return append(env, "WHALE_TEST_SLOW=6", "TMPDIR="+fsdax, "WHALE_TEST_DAX="+daxDevice, "WHALE_TEST_FSDAX="+fsdax, "WHALE_TEST_DOMAIN="+domain)
}

// test runs a test program. What it skips, it says why.
func (s *step) test(env []string, program string, args ...string) error {
	return s.testOn("", env, program, args...)
}

// testOn is test on a host.
func (s *step) testOn(host string, env []string, program string, args ...string) error {
	cmd := s.command(host, env, append([]string{"/bin/" + program, "-test.v"}, args...)...)
	seen := &counter{lines: cmd.Stdout.(*lines)}
	cmd.Stdout = seen
	if err := s.finish(cmd); err != nil {
		return err
	}
	if seen.passed == 0 {
		return fmt.Errorf("%s ran no test", program)
	}
	s.note("%d tests passed, %d skipped", seen.passed, seen.skipped)
	for _, why := range seen.reasons {
		s.note("skipped: %s", why)
	}
	return nil
}

// pmemTests runs the tests of the package: on their own, and then with all their files on persistent memory. The kernel
// must have made metadata durable before a page was written, which is what MAP_SYNC is for.
func pmemTests(s *step) error {
	synced, err := newProbe("dax_finish_sync_fault")
	if err != nil {
		return err
	}
	// An emulated flush does not look at the address, so that one which leaves the memory cannot be noticed here.
	const blind = "TestFlushStaysInside"
	s.note("left out: %s, for emulated flushes touch no memory", blind)
	if err := s.test(onMemory(), "pmem.test", "-test.skip", blind); err != nil {
		return err
	}
	hits, err := synced.hits()
	if err != nil {
		return err
	}
	if hits == 0 {
		return fmt.Errorf("no page was written for the first time through a mapping with MAP_SYNC")
	}
	s.note("%d first writes through MAP_SYNC (dax_finish_sync_fault)", hits)
	return nil
}

// The suite that every provider passes; what else there is to be tested of these does not depend on the memory.
const conformance = "^TestConformance$"

func shmTests(s *step) error { return s.test(onMemory(), "shm.test", "-test.run", conformance) }

func tcpTests(s *step) error { return s.test(onMemory(), "tcp.test", "-test.run", conformance) }

func nodeTests(s *step) error {
	return s.test(onMemory(), "node.test", "-test.run", "Memory")
}

// flushProbe counts what the target of a persistent flush does in soft-RoCE: the write-back of a range of persistent memory.
func flushProbe() (*probe, error) { return newProbe("rxe_flush_pmem_iova") }

// verbsTests runs the provider's tests between two hosts, and sees that packets crossed and that flushes ran.
func verbsTests(s *step) error {
	flushes, err := flushProbe()
	if err != nil {
		return err
	}
	before, err := packets(0)
	if err != nil {
		return err
	}
	env := []string{"WHALE_VERBS_DAX=" + daxDevice, "WHALE_VERBS_FSDAX=" + fsdax}
	for i, name := range []string{"A", "B"} {
		env = append(env, fmt.Sprintf("WHALE_VERBS_%s=%s,%s,%s", name, deviceName(i), hostAddress(i), hostName(i)))
	}
	if err := s.test(onMemory(env...), "verbs.test"); err != nil {
		return err
	}
	return s.crossed(flushes, before)
}

// crossed sees that persistent flushes ran since the probe began, and reports how much crossed the device of host 0.
func (s *step) crossed(flushes *probe, before int) error {
	hits, err := flushes.hits()
	if err != nil {
		return err
	}
	after, err := packets(0)
	if err != nil {
		return err
	}
	if hits == 0 {
		return fmt.Errorf("no persistent flush ran in soft-RoCE (rxe_flush_pmem_iova)")
	}
	s.note("%d persistent flushes in the kernel (rxe_flush_pmem_iova), %d packets from %s", hits, after-before, deviceName(0))
	return nil
}

// counter counts a test program's verdicts on its way to the report, and keeps why tests were skipped: the last that each said.
type counter struct {
	*lines
	passed, skipped int
	reasons         []string
	current         string            // the test that speaks
	said            map[string]string // the last line of each
}

func (c *counter) Write(b []byte) (int, error) {
	say := c.say
	defer func() { c.say = say }()
	c.say = func(text string) {
		c.see(text)
		say(text)
	}
	return c.lines.Write(b)
}

// see looks at a line. Subtests' verdicts are indented.
func (c *counter) see(text string) {
	words := strings.Fields(text)
	if len(words) < 3 || words[0] != "===" && words[0] != "---" {
		if c.said == nil {
			c.said = map[string]string{}
		}
		c.said[c.current] = strings.TrimSpace(text)
		return
	}
	name, whole := words[2], strings.HasPrefix(text, "---")
	switch words[1] {
	case "RUN", "CONT", "NAME":
		c.current = name
	case "PASS:":
		if whole {
			c.passed++
		}
	case "SKIP:":
		if whole {
			c.skipped++
		}
		c.reasons = append(c.reasons, name+": "+c.said[name])
	}
}
