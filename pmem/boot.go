package pmem

import (
	"fmt"
	"os"
	"strconv"
	"strings"
)

// Boot tells one boot of the machine from another (proc_sys_kernel(5), random/boot_id): what survives processes only, pages of a file
// that nobody has synced, may not have survived the way from one to the next. It is never zero.
func Boot() (id [2]uint64, err error) {
	text, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return id, fmt.Errorf("pmem: %w", err)
	}
	digits := strings.ReplaceAll(strings.TrimSpace(string(text)), "-", "")
	if len(digits) != 32 {
		return id, fmt.Errorf("pmem: boot id %q has not 32 digits", digits)
	}
	for i := range id {
		if id[i], err = strconv.ParseUint(digits[16*i:16*i+16], 16, 64); err != nil {
			return id, fmt.Errorf("pmem: boot id: %w", err)
		}
	}
	return id, nil
}
