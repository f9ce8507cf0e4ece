# ermoe_ba in an image: model, atlases and all libraries inside, no network when it runs.
#
#   podman build --format docker -t ermoe_ba .                    (docker build -t ermoe_ba . as well)
#   podman build --format docker -t ermoe_ba:cuda --build-arg TORCH=cuda .
#
# --format docker: podman's own format has no place for HEALTHCHECK. pipelines/container_check.sh
# builds, runs and checks it.

# Any image with Python 3.11, its venv and CA certificates, as `python3`: the locks are for 3.11.
ARG BASE=python:3.11-slim

# What builds: uv, hatchling and what lists software and licences. Nothing of it stays but the lists.
FROM ${BASE} AS tools
COPY pipelines/container_lock_tools.txt /locks/tools.txt
RUN python3 -m venv /opt/tools \
    && /opt/tools/bin/pip install --no-cache-dir --require-hashes --only-binary :all: \
        -r /locks/tools.txt

FROM tools AS wheel
COPY . /source
WORKDIR /source
RUN /opt/tools/bin/hatchling build -t wheel -d /wheels

# Before the project and apart from it: a change of the source leaves this gigabyte as it is. The
# image goes on from here, rather than take a copy, which would be hashed and stored anew.
FROM ${BASE} AS dependencies
# cpu or cuda: which build of PyTorch.
ARG TORCH=cpu
# A folder, mounted during the build, with a wheel of PyTorch that shall not be fetched.
ARG TORCH_WHEELS=
COPY pipelines/container_lock_tools.txt pipelines/container_lock_${TORCH}.txt /opt/locks/
# One step, so that what goes again is nowhere stored. System certificates: institutes that look into
# their traffic add theirs there. uv, which is taken away at the end, is its entry in the lock: all up
# to the first line without a backslash. docopt has no wheel; what builds it is held to hashes too.
# PyTorch's CPU builds lie in an index of their own. What never runs here, a fifth of the image, goes:
# the libraries' own tests, PyTorch's headers and its C++ test programs. Byte code is compiled now,
# because an image that is read only cannot keep it later, and last, because a quarter of the files
# would be compiled to be removed; one file of PyTorch's is for Python 3.12 alone.
WORKDIR /opt/ermoe_ba
RUN sed -n '/^uv==/,/[^\\]$/p' /opt/locks/container_lock_tools.txt >/tmp/uv.txt \
    && python3 -m venv /tmp/uv \
    && /tmp/uv/bin/pip install --no-cache-dir --require-hashes --only-binary :all: -r /tmp/uv.txt \
    && if [ -n "${TORCH_WHEELS}" ]; then from="--find-links=${TORCH_WHEELS}"; \
    elif [ "${TORCH}" = cpu ]; then from=--torch-backend=cpu; else from=; fi \
    && export UV_SYSTEM_CERTS=1 UV_PYTHON_DOWNLOADS=never UV_NO_CACHE=1 UV_LINK_MODE=copy \
    && /tmp/uv/bin/uv venv --python "$(command -v python3)" /opt/ermoe_ba \
    && /tmp/uv/bin/uv pip install --python bin/python \
        --require-hashes --build-constraints /opt/locks/container_lock_tools.txt \
        ${from:+"${from}"} -r "/opt/locks/container_lock_${TORCH}.txt" \
    && find lib -type d -name tests -prune -exec rm -rf {} + \
    && rm -rf lib/python3*/site-packages/torch/test \
        lib/python3*/site-packages/torch/include lib/python3*/site-packages/torch/share \
    && find lib/python3*/site-packages/torch/bin -type f ! -name torch_shm_manager -delete \
    && bin/python -m compileall -q -j 0 -x py312_ lib >&2 \
    && rm -rf /tmp/uv /tmp/uv.txt

FROM dependencies AS project
COPY --from=tools /opt/tools /opt/tools
COPY --from=wheel /wheels /wheels
# Apart, so that the image takes the project alone as its last layer.
RUN UV_NO_CACHE=1 /opt/tools/bin/uv pip install --python bin/python --offline \
        --no-deps --compile-bytecode /wheels/*.whl \
    && mkdir -p /project share/ermoe_ba \
    && /opt/tools/bin/cyclonedx-py environment --output-reproducible \
        -o share/ermoe_ba/sbom.cdx.json bin/python \
    && /opt/tools/bin/pip-licenses --python bin/python --from=mixed --format=markdown \
        --output-file share/ermoe_ba/licences.md \
    && cp -a --parents bin/ermoe-ba lib/python3*/site-packages/ermoe_ba* share/ermoe_ba /project

FROM dependencies AS image
ARG VERSION=unknown
ARG REVISION=unknown
LABEL org.opencontainers.image.title="ermoe_ba" \
    org.opencontainers.image.description="Brain age from one T1-weighted MRI. Research use; not a diagnosis." \
    org.opencontainers.image.licenses="Apache-2.0 AND CC-BY-SA-3.0" \
    org.opencontainers.image.version="${VERSION}" \
    org.opencontainers.image.revision="${REVISION}"
# Whatever the user's number, home and caches lie where `--tmpfs /tmp` makes room for them. A number
# without an entry in /etc/passwd has no name, and PyTorch asks for one.
ENV PATH=/opt/ermoe_ba/bin:$PATH \
    HOME=/tmp \
    USER=ermoe \
    MPLCONFIGDIR=/tmp/matplotlib \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1
# The first number that Debian gives to people; nothing in the image belongs to it.
USER 1000:1000
WORKDIR /tmp
# Last: a change of the source makes this layer anew, and no other.
COPY --from=project /project /opt/ermoe_ba
HEALTHCHECK --interval=5m --timeout=30s CMD ["ermoe-ba", "info"]
ENTRYPOINT ["ermoe-ba"]
CMD ["--help"]
