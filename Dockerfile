# docker build -t negserve .                    the server (the last stage)
# docker build -t negserve-client --target client .   a client that checks a server

# The kernels' target CPU: by default any CPU with AVX2 (Intel since 2013, AMD since 2015).
# --build-arg CPU=generic gives an image for every x86-64 CPU, with slower kernels.
ARG CPU=x86-64-v3


FROM python:3.13-slim-trixie AS base
ENV PATH=/opt/venv/bin:$PATH


# The system without what installs software (apt, the Perl of its scripts, pip) and administers a machine (accounts,
# disks), and without Python's tests, editor and help texts, and the character sets of iconv, which Python does not
# use. dpkg's list of packages stays, for scanners. The standard library gets byte code, which the user of the images
# could not write.
FROM base AS system
RUN dpkg --purge --force-depends --force-remove-essential \
      apt libapt-pkg7.0 sqv debconf passwd perl-base util-linux \
 && find / -xdev \( -path '*-packages/pip' -o -path '*-packages/pip-*' -o -path '*/bin/pip*' \
      -o -path '*/share/python-wheels' -o -path '/usr/lib/*/gconv' -o -path '*/lib/python3.*/ensurepip' \
      -o -path '*/lib/python3.*/idlelib' -o -path '*/lib/python3.*/pydoc_data' -o -path '*/lib/python3.*/test' \
      -o -path '/var/cache/debconf' -o -path '/var/lib/apt' -o -path '/usr/share/info' \
      -o -path '/var/lib/dpkg/info/*.symbols' -o -path '/var/lib/dpkg/info/*.templates' \) \
      -prune -exec rm -r {} + \
 && python -m compileall -q "$(python -c 'import sysconfig; print(sysconfig.get_path("stdlib"))')"


# In one layer, since one above that of the base would not make it smaller.
FROM scratch AS runtime
# hadolint ignore=DL3067
COPY --from=system / /
ARG VERSION=0.2.0.dev0 REVISION=""
LABEL org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}" \
      org.opencontainers.image.licenses="MIT"
ENV PATH=/opt/venv/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin \
    PYTHONUNBUFFERED=1


# Builds wheels and environments. pip runs outside the environments, so that none contains pip.
# All that is installed has the hashes of deploy/locks.
FROM base AS build
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1 PIP_ROOT_USER_ACTION=ignore
WORKDIR /src
RUN python -m venv --without-pip /opt/build && python -m venv --without-pip /opt/venv
COPY deploy/locks/build.txt ./
RUN pip --python /opt/build/bin/python install --require-hashes --no-deps -r build.txt
COPY deploy/complete_sbom.py /opt/build
COPY --from=system /var/lib/dpkg /opt/build/dpkg
RUN dpkg-query --admindir=/opt/build/dpkg --show --showformat '${Package}\t${Version}\t${Architecture}\n' \
      > /opt/build/packages.tsv


FROM build AS wheel
COPY pyproject.toml README.md LICENSE ./
COPY client client
COPY server server
COPY proto/testdata proto/testdata
RUN /opt/build/bin/python -m hatchling build -t wheel -d /wheel


FROM build AS client-venv
COPY deploy/locks/client.txt ./
RUN pip --python /opt/venv/bin/python install --require-hashes --no-deps -r client.txt
COPY --from=wheel /wheel /wheel
RUN pip --python /opt/venv/bin/python install --no-deps /wheel/*.whl \
 && /opt/build/bin/cyclonedx-py environment --output-reproducible --of JSON -o /opt/venv/sbom.cdx.json \
    /opt/venv/bin/python \
 && /opt/build/bin/python /opt/build/complete_sbom.py /opt/venv/sbom.cdx.json < /opt/build/packages.tsv


FROM build AS server-venv
# For strip. It is not in the image, so any version does.
# hadolint ignore=DL3008
RUN apt-get update && apt-get install --yes --no-install-recommends binutils \
 && rm -rf /var/lib/apt/lists/*
COPY deploy/locks/server.txt ./
# Symbols for debuggers, tests of libraries and stubs for type checkers, which no server needs, are 75 MB of 490.
# Of the rest llvmlite (LLVM) has 154 and polars 132. What was changed by patchelf, such as numpy's BLAS, can't be
# stripped: it would not load. Libraries get byte code below, where the server imports them: that of all is 12 MB more.
RUN pip --python /opt/venv/bin/python install --require-hashes --no-deps --no-compile -r server.txt \
 && site="$(/opt/venv/bin/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')" \
 && find "$site" -name '*.so' ! -path '*/numpy*' ! -name '*pool.*' -exec strip --strip-unneeded {} + \
 && find "$site" -type d -name tests -prune -exec rm -r {} + \
 && find "$site" -name '*.pyi' -delete
COPY --from=wheel /wheel /wheel
RUN pip --python /opt/venv/bin/python install --no-deps /wheel/*.whl \
 && /opt/build/bin/cyclonedx-py environment --output-reproducible --of JSON -o /opt/venv/sbom.cdx.json \
    /opt/venv/bin/python \
 && /opt/build/bin/python /opt/build/complete_sbom.py /opt/venv/sbom.cdx.json < /opt/build/packages.tsv
# numba keys its cache by the CPU's name and features, so both must be the same here and at run
# time. Empty features mean those that the name implies.
ARG CPU
ENV NUMBA_CACHE_DIR=/opt/numba-cache NUMBA_CPU_NAME=${CPU} NUMBA_CPU_FEATURES=""
RUN python -c 'import backports.zstd, grpc_health.v1.health_pb2_grpc, jinja2, prometheus_client.multiprocess; \
import rich.live, rich.progress, rich.table; \
import negserve_server.cli, negserve_server.health_check, negserve_server.metrics.prometheus_metrics; \
from negserve_server.serving.loading import load_datasets; \
from negserve_server.warm_up import warm_up; \
warm_up(load_datasets({"world": None}))'
COPY deploy/sealed_cache.py /tmp/
RUN cp /tmp/sealed_cache.py "$(python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')" \
 && python -c 'import compileall, sealed_cache; compileall.compile_file(sealed_cache.__file__)'


FROM runtime AS client
LABEL org.opencontainers.image.title="negserve-client" \
      org.opencontainers.image.description="Samples from negserve servers, checks every negative, and trains a small model"
COPY --from=client-venv /opt/venv /opt/venv
COPY deploy/compose /opt/compose
USER 10001:10001
WORKDIR /opt/compose
ENTRYPOINT ["python", "-m"]
CMD ["client"]


FROM runtime AS server
LABEL org.opencontainers.image.title="negserve" \
      org.opencontainers.image.description="Exact, reproducible negative sampling for knowledge-graph embeddings, as a shared gRPC service"
ARG CPU
ENV NUMBA_CACHE_DIR=/opt/numba-cache NUMBA_CPU_NAME=${CPU} NUMBA_CPU_FEATURES="" \
    NUMBA_CACHE_LOCATOR_CLASSES=sealed_cache.SealedCacheLocator
COPY --from=server-venv /opt/venv /opt/venv
COPY --from=server-venv /opt/numba-cache /opt/numba-cache
# Of snapshots: a new volume here belongs to the user.
RUN install --directory --owner=10001 --group=10001 /graphs
USER 10001:10001
EXPOSE 7733
STOPSIGNAL SIGTERM
# Asks 127.0.0.1:7733; for a server at another address set NEGSERVE_HEALTH_TARGET.
HEALTHCHECK --interval=5s --timeout=5s --start-period=60s --retries=3 \
    CMD ["python", "-m", "negserve_server.health_check"]
ENTRYPOINT ["negserve-server"]
# In plain text: who reaches it, the network of the engine decides.
CMD ["serve", "--listen", "0.0.0.0:7733", "--insecure"]
