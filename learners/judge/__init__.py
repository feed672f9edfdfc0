"""Whether a policy is good enough: trials on fixed traces and the gate."""
