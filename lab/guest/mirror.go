//go:build linux

package main

import (
	"fmt"
	"regexp"
	"strings"
)

// The primary's memory and the mirror's.
const (
	primaryDevice = daxDevice
	mirrorDevice  = "/dev/dax1.0"
)

// mirrorTests mirrors a region from one host to another by RDMA, both on persistent memory, kills the primary and opens the copy;
// then it reports what each strategy costs here.
func mirrorTests(s *step) error {
	flushes, err := flushProbe()
	if err != nil {
		return err
	}
	before, err := packets(0)
	if err != nil {
		return err
	}
	serve := []string{"ip netns exec", hostName(1), "/bin/whale mirror serve --fabric verbs --insecure --device", deviceName(1), "--listen", hostAddress(1) + ":7400"}
	env := onMemory("WHALE_MIRROR_SERVE="+strings.Join(serve, " "), "WHALE_MIRROR_HERE="+hostAddress(0)+":0,"+primaryDevice, "WHALE_MIRROR_THERE="+mirrorDevice)
	if err := s.testOn(hostName(0), env, "mirror.test", "-test.run", "^TestServedOverRDMA$"); err != nil {
		return err
	}
	if err := s.crossed(flushes, before); err != nil {
		return err
	}
	return compare(s)
}

// ratios are a line of whale mirror compare with all its figures: times, slowdowns, speed-ups.
var ratios = regexp.MustCompile(`^\s*transact-\S+\s+\d+(\s+[\d.]+){2}(\s+[\d.]+ us){4}(\s+[\d.]+){5}\s*$`)

// compare runs the strategies beside each other, with both ends at one soft-RoCE device. Every one must be had.
func compare(s *step) error {
	out, err := s.output(hostName(0), "/bin/whale", "mirror", "compare", "--fabric", "verbs", "--memory", primaryDevice+","+mirrorDevice, "--direct-write",
		"--workload", "transact", "--transactions", "10", "--rounds", "3")
	if err != nil {
		return err
	}
	rows := 0
	for line := range strings.Lines(out) {
		line = strings.TrimSpace(line)
		if strings.HasPrefix(line, "transact-") {
			if rows++; !ratios.MatchString(line) {
				return fmt.Errorf("whale mirror compare: not all strategies are to be had: %s", line)
			}
		}
		if strings.HasPrefix(line, "threads") || strings.HasPrefix(line, "transact") {
			s.note("%s", line)
		}
	}
	if rows == 0 {
		return fmt.Errorf("whale mirror compare printed no workload:\n%s", out)
	}
	s.note("emulated, soft-RoCE with both ends at one device: ratios, not speed")
	return nil
}
