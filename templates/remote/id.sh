# The service's user owns that directory: no link there is followed, and no pipe is waited for.
put id "$(dd if=/etc/gitlab-runner/.runner_system_id iflag=nofollow,nonblock bs=256 count=1 status=none 2>/dev/null | head -n 1 | tr -cd 'a-zA-Z0-9_')"
