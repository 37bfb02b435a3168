# relid_sumo with its tested versions and torch for the CPU:
#     docker build -t relid_sumo . && docker run --rm -v "$PWD/runs:/home/user/runs" relid_sumo demo
FROM python:3.11-slim-bookworm

# The libraries of SUMO's wheels (relid_sumo/base/system.py), and an X server for `view --record`. Not pinned: the base image's
# release decides their versions, and Debian removes old ones.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install -y --no-install-recommends \
        libatomic1 libexpat1 libgl1 libx11-6 libxext6 libxrender1 xvfb \
    && rm -rf /var/lib/apt/lists/*

WORKDIR /src
COPY pyproject.toml constraints.txt README.md LICENSE ./
COPY relid_sumo relid_sumo
COPY networks networks
COPY scenarios scenarios
RUN pip install --no-cache-dir --extra-index-url https://download.pytorch.org/whl/cpu -c constraints.txt '.[osm,llm,tensorboard]'

RUN useradd --create-home --uid 1000 user && mkdir /home/user/runs && chown 1000 /home/user/runs
USER 1000
WORKDIR /home/user
ENTRYPOINT ["relid-sumo"]
CMD ["--help"]
